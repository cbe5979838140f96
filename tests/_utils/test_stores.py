import fsspec
import pytest

from effboost._utils.stores import (
    as_local_path,
    is_url,
    list_url,
    read_url,
    redact,
    url_exists,
    write_url,
)
from effboost.exceptions import StoreError


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a.png", True),
        ("https://host/a.png", True),
        ("C://cells/a.png", False),
        ("cells/a.png", False),
        ("/data/s3://b/a.png", False),
        ("", False),
    ],
)
def test_urls_are_told_from_paths(path, expected):
    assert is_url(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file:///data/a%20b.png", "/data/a b.png"),
        ("file://localhost/data/a.png", "/data/a.png"),
        ("FILE:///data/a.png", "/data/a.png"),
        ("file://host/data/a.png", "file://host/data/a.png"),
        ("s3://bucket/a.png", "s3://bucket/a.png"),
        ("cells/a.png", "cells/a.png"),
    ],
)
def test_file_urls_are_paths(path, expected):
    assert as_local_path(path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ann:secret@host/a.png", "https://***@host/a.png"),
        ("https://ann@host/a.png", "https://***@host/a.png"),
        ("s3://KEY:SEC/RET+x@bucket/a.png", "s3://***@bucket/a.png"),
        ("https://host/a.png?X-Amz-Signature=abc&x=1", "https://host/a.png?***"),
        ("https://host/a.png#access_token=abc", "https://host/a.png#***"),
        (
            "https://u:p@host:80/a.png?t=1 and gs://b/c",
            "https://***@host:80/a.png?*** and gs://b/c",
        ),
        ("GET 'https://host/a?sig=1' failed", "GET 'https://host/a?***' failed"),
        # What is none of these stays.
        ("https://host:8080/ann@home.png", "https://host:8080/ann@home.png"),
        ("s3://bucket/ann@home/a#3.png", "s3://bucket/ann@home/a#3.png"),
        ("cells/what?.png", "cells/what?.png"),
    ],
)
def test_credentials_are_hidden(text, expected):
    assert redact(text) == expected
    assert redact(redact(text)) == expected


def test_files_are_written_listed_and_read_up_to_a_limit(memory):
    for name in ("b/2.png", "a.png", "b/1.png"):
        write_url(f"memory://cells/{name}", name.encode())
    assert list_url("memory://cells") == [
        f"memory:///cells/{name}" for name in ("a.png", "b/1.png", "b/2.png")
    ]
    assert list_url("memory://cells/a.png") == list_url("memory://none") == []
    assert read_url("memory://cells/b/1.png", 100) == b"b/1.png"
    assert read_url("memory://cells/b/1.png", 2) == b"b/1"
    assert url_exists("memory://cells/a.png")
    assert not url_exists("memory://cells/c.png")
    with pytest.raises(FileNotFoundError, match=r"no such file in the store.*memory://cells/c"):
        read_url("memory://cells/c.png", 100)


def test_two_colons_in_a_name_are_no_chain(memory):
    memory.pipe_file("/cells/a::b.png", b"pixels")
    (url,) = list_url("memory://cells")
    assert read_url(url, 100) == b"pixels"
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_url("memory:///cells/c::d.png", 100)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://u:secret@b/a.png", r"nowhere://\*\*\*@b/a.png: the store cannot be used"),
        ("zip://a.png::memory://cells.zip", "chained URLs are not supported"),
        ("file://host/etc/hostname", "name a file of this machine by its path"),
        ("local:///etc/hostname", "name a file of this machine by its path"),
        ("local:///etc/host::name", "name a file of this machine by its path"),
    ],
)
def test_what_is_no_store_raises(url, message):
    with pytest.raises(StoreError, match=message) as caught:
        read_url(url, 100)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_missing_package_names_the_extra(monkeypatch):
    def missing(url):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(StoreError, match=r"gs://b/a: Install gcsfs .*effboost\[stores\]"):
        read_url("gs://b/a", 100)
