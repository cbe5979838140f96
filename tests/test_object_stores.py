"""Images, features and predictions in stores: S3 by moto's server, HTTP, and fsspec's memory."""

import base64
import http.server
import io
import pickle
import threading
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fsspec
import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from moto.server import ThreadedMotoServer
from PIL import Image
from sklearn.base import clone

import effboost
from common.networks import tiny_featurizer
from effboost import Cache, ImageSequence, extract_features, predict_images, presets
from effboost.cli import main
from effboost.datasets import load_image_folder, make_blood_cells
from effboost.exceptions import (
    DatasetError,
    DroppedRowsWarning,
    ImageDecodeError,
    ImageNotFoundError,
    StoreError,
    WeightsError,
)


def as_png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def without_secrets(error):
    """Check that nothing of an error, or of those before it, shows a credential."""
    seen = error
    while seen is not None:
        assert "s3cret" not in f"{seen} {seen!r}"
        seen = seen.__cause__ or seen.__context__
    return True


@pytest.fixture(scope="session")
def server():
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch, pixels):
    """A bucket with 24 images, of which two are damaged."""
    options = {"key": "testing", "secret": "s3cret/testing", "endpoint_url": server}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    system = fsspec.filesystem("s3")
    system.mkdir("cells")
    for i, picture in enumerate(pixels):
        content = as_png(picture)
        system.pipe_file(f"cells/slide{i % 2}/{i:02d}.png", content[: 60 if i in (5, 9) else None])
    system.pipe_file("cells/notes.txt", b"no image")
    yield "s3://cells"
    system.rm("cells", recursive=True)
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def urls(bucket):
    return [f"{bucket}/slide{i % 2}/{i:02d}.png" for i in range(24)]


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.fixture
def no_store(monkeypatch):
    def fail(url, **options):
        raise AssertionError(f"{url} would be read")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)


def require_auth(server, after):
    """Let moto check credentials after a number of requests."""
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{server}/moto-api/reset-auth", after, headers)
    urllib.request.urlopen(request, timeout=10).close()


# --- reading --------------------------------------------------------------------------------


def test_images_of_s3_have_the_features_of_files(urls, pixels):
    featurizer = tiny_featurizer().fit(pixels)
    good = [i for i in range(24) if i not in (5, 9)]
    expected = featurizer.transform(pixels)
    with pytest.raises(ImageDecodeError, match=r"position 5, 's3://cells/slide1/05.png'"):
        featurizer.transform(urls)
    with pytest.raises(ImageNotFoundError, match=r"'s3://cells/none.png': there is no such file"):
        featurizer.transform(["s3://cells/none.png"])
    with pytest.warns(DroppedRowsWarning):
        table = extract_features(featurizer, urls, on_error="skip")
    np.testing.assert_array_equal(table.features, expected[good])
    assert [row.path for row in table.rejects] == [urls[5], urls[9]]


def test_cache_finds_the_content_of_files_in_stores(urls, pixels, tmp_path):
    featurizer = tiny_featurizer(cache=tmp_path / "cache").fit(pixels)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, picture in zip(files, pixels, strict=False):
        file.write_bytes(as_png(picture))
    np.testing.assert_array_equal(featurizer.transform(urls[:3]), featurizer.transform(files))
    assert len(Cache(tmp_path / "cache")) == 3


def test_wrong_credentials_are_one_error_even_if_images_are_skipped(
    server, urls, pixels, monkeypatch
):
    require_auth(server, after=b"0")
    try:
        wrong = {"key": "AKIAWRONG", "secret": "s3cret/wrong", "endpoint_url": server}
        monkeypatch.setitem(fsspec.config.conf, "s3", wrong)
        featurizer = tiny_featurizer().fit(pixels)
        with pytest.raises(StoreError) as caught:
            extract_features(featurizer, urls, on_error="skip")
    finally:
        require_auth(server, after=b"inf")
    assert str(caught.value).startswith("s3://cells/slide0/00.png: the store refuses access (")
    assert "check the credentials" in str(caught.value)
    assert "wrong" not in str(caught.value).lower()
    assert without_secrets(caught.value)


def test_sizes_and_empty_files_are_checked(memory, monkeypatch):
    memory.pipe_file("cells/empty.png", b"")
    memory.pipe_file("cells/large.png", bytes(101))
    monkeypatch.setattr("effboost._images.decoding.MAX_REMOTE_BYTES", 100)
    monkeypatch.setattr("effboost._images.limits.MAX_REMOTE_BYTES", 100)
    images = ImageSequence(["memory://cells/empty.png", "memory://cells/large.png"])
    with pytest.raises(ImageDecodeError, match="the file is empty"):
        images[0]
    with pytest.raises(ImageDecodeError, match="more than 100 bytes, the limit for images"):
        images[1]


def test_file_urls_are_files(paths, pixels):
    images = ImageSequence([Path(path).as_uri() for path in paths])
    np.testing.assert_array_equal(images[3], pixels[3])
    assert images.path(3) == paths[3]
    with pytest.raises(ImageDecodeError, match="is not a regular file"):
        ImageSequence(["file:///dev/zero"])[0]


@pytest.mark.slow
def test_workers_read_stores(server, bucket, urls, pixels, monkeypatch):
    for name, value in fsspec.config.conf["s3"].items():
        monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)
    # Workers of an earlier test would be used again, with its environment.
    get_reusable_executor().shutdown(wait=True)
    images = ImageSequence(urls[:4])
    read = joblib.Parallel(n_jobs=2)(
        joblib.delayed(ImageSequence.__getitem__)(images[[i]], 0) for i in range(4)
    )
    np.testing.assert_array_equal(read, pixels[:4])


# --- credentials in URLs --------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve a folder to one user, or to those with a token."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        allowed = (
            self.headers.get("Authorization") == "Basic " + base64.b64encode(b"ann:s3cret").decode()
        )
        if not (allowed or query == "token=s3cret"):
            self.send_error(403)
        else:
            self.path = path
            super().do_GET()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{web.server_port}"
        finally:
            web.shutdown()
            thread.join()


@pytest.fixture
def web(paths):
    with serving(partial(Handler, directory=str(Path(paths[0]).parent))) as address:
        yield address


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
def test_credentials_of_urls_are_used_and_never_shown(web, pixels):
    images = ImageSequence(
        [
            f"http://{web}/cell_00.png?token=s3cret",
            f"http://{web}/cell_01.png?token=s3cret-wrong",
            f"http://{web}/none.png?token=s3cret",
        ],
        groups=["a", "b", "c"],
    )
    np.testing.assert_array_equal(images[0], pixels[0])
    assert "s3cret" not in repr(images) + repr(np.asarray(images)) + repr(images[:1])
    assert images.path(0) == images.name(0) == f"http://{web}/cell_00.png?***"
    with pytest.raises(StoreError, match="the store refuses access") as refused:
        images[1]
    with pytest.raises(ImageNotFoundError, match=r"none.png\?\*\*\*'") as missing:
        images[2]
    assert without_secrets(refused.value)
    assert without_secrets(missing.value)
    assert "s3cret" not in repr(pickle.loads(pickle.dumps(missing.value)))


class InPieces(http.server.BaseHTTPRequestHandler):
    """Send a file in pieces, without its length."""

    protocol_version = "HTTP/1.1"
    content = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(self.content), 500):
            piece = self.content[start : start + 500]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")

    def do_HEAD(self):
        self.send_error(405)

    def log_message(self, *_):
        pass


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
def test_files_that_come_in_pieces_are_read_to_their_end(paths, pixels):
    handler = type("Handler", (InPieces,), {"content": Path(paths[0]).read_bytes()})
    with serving(handler) as address:
        images = ImageSequence([f"http://{address}/cell.png"])
        np.testing.assert_array_equal(images[0], pixels[0])


def test_predictions_rejects_and_reports_show_no_credentials(memory, pixels, three_classes):
    clf = effboost.HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, three_classes)
    memory.pipe_file("u:s3cret@cells/broken.png", b"no image")
    with pytest.warns(DroppedRowsWarning) as warned:
        table = predict_images(clf, ["memory://u:s3cret@cells/broken.png"], on_error="skip")
    assert table.rejects[0].path == "memory://***@cells/broken.png"
    assert "s3cret" not in str(warned[0].message) + repr(table.rejects[0])


# --- the command line -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=40, random_state=0)
    clf = presets.frozen(
        "shufflenet_v2_x0_5", weights=None, image_size=32, runtime="torch", random_state=0
    )
    clf.set_params(classifier__n_estimators=3).fit(cells.images, cells.target)
    return effboost.save(clf, tmp_path_factory.mktemp("model") / "cells.effboost")


def run(*arguments):
    return main([*map(str, arguments), "--quiet"])


@pytest.mark.slow
def test_predictions_are_read_from_and_written_to_s3(bucket, urls, model_file, tmp_path, capsys):
    rejects = tmp_path / "rejects.csv"
    command = ("predict", model_file, bucket, "--out", "s3://cells/out.csv")
    skip = ("--on-error", "skip", "--rejects", rejects)
    assert run(*command, *skip) == 0
    with fsspec.open("s3://cells/out.csv", "rt") as file:
        table = pd.read_csv(file)
    good = sorted(url for i, url in enumerate(urls) if i not in (5, 9))
    assert table["image"].tolist() == good
    assert table["class"].tolist() == effboost.load(model_file).predict(good).tolist()
    assert pd.read_csv(rejects)["path"].tolist() == [urls[5], urls[9]]
    assert run(*command, "--resume") == 1
    assert "--resume needs a file of this machine" in capsys.readouterr().err
    assert run(*command) == 1
    assert "'s3://cells/out.csv' exists" in capsys.readouterr().err


@pytest.mark.slow
def test_features_are_read_from_and_written_to_s3(bucket, urls, model_file, capsys):
    out = "s3://cells/features.parquet"
    options = ("--model", model_file, "--out", out, "--block-size", 4)
    assert run("features", f"{bucket}/slide0", *options) == 0
    assert run("features", f"{bucket}/slide0", *options) == 1
    assert "is not empty" in capsys.readouterr().err
    more = (f"{bucket}/slide0", urls[1], urls[3])
    assert run("features", *more, *options, "--resume", "--format", "csv") == 0
    assert "written,2\nwritten before,12\n" in capsys.readouterr().out
    parts = sorted(fsspec.filesystem("s3").glob("cells/features.parquet/*"))
    assert len(parts) == 4
    files = map(fsspec.filesystem("s3").open, parts)
    table = pd.concat(pd.read_parquet(file) for file in files).sort_values("position")
    names = [url for url in urls if "slide0" in url] + [urls[1], urls[3]]
    assert table["path"].tolist() == names
    np.testing.assert_array_equal(table.iloc[:, 2:], effboost.load(model_file).transform(names))


def test_file_urls_name_folders_and_outputs(model_file, paths, tmp_path):
    out = tmp_path / "table.csv"
    folder = Path(paths[0]).parent
    assert run("predict", model_file, folder.as_uri(), "--out", out.as_uri()) == 0
    assert pd.read_csv(out)["image"].tolist() == sorted(map(str, paths))


def test_urls_that_differ_only_in_a_query_raise(model_file, capsys):
    urls = [f"https://host/image?id={i}" for i in range(2)]
    assert run("predict", model_file, *urls) == 1
    assert "differ only in user, password or query" in capsys.readouterr().err


def test_errors_of_the_command_line_show_no_credentials(model_file, capsys):
    out = "nowhere://ann:s3cret@host/p.csv"
    assert run("predict", model_file, "a.png", "--out", out) == 1
    err = capsys.readouterr().err
    assert "nowhere://***@host/p.csv" in err
    assert "s3cret" not in err


# --- what never reads a store ---------------------------------------------------------------


@pytest.mark.parametrize("allow_outside", [False, True])
def test_tables_of_labels_read_no_store(tmp_path, memory, pixels, no_store, allow_outside):
    (tmp_path / "a.png").write_bytes(as_png(pixels[0]))
    memory.pipe_file("cells/b.png", as_png(pixels[1]))
    (tmp_path / "labels.csv").write_text("path,label\na.png,x\nmemory://cells/b.png,y\n")
    with pytest.raises(DatasetError):
        load_image_folder(tmp_path, target="label", allow_outside=allow_outside)


def test_model_files_read_no_store(model_file, tmp_path, pixels, no_store):
    model = effboost.load(model_file)
    model.set_params(featurizer__weights="memory://host/w.pth")
    model.featurizer_.set_params(weights="memory://host/w.pth")
    loaded = effboost.load(effboost.save(model, tmp_path / "m.effboost"))
    assert loaded.featurizer.weights == "memory://host/w.pth"
    loaded.predict(pixels[:2])
    with pytest.raises(WeightsError):
        clone(loaded).fit(pixels, np.arange(24) % 2)
