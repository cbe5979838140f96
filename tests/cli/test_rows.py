import io
from types import SimpleNamespace

import pytest

from effboost.cli._rows import _TableWriter


def test_tables_are_aligned_and_cannot_be_read_back():
    writer = _TableWriter(["ALL"], ["ALL", "HEM"], ["a.png", "\x1b[2J.png"])
    out = io.StringIO()
    writer.write_header(out)
    fields = {"label": "ALL", "probabilities": [0.75], "error": None}
    writer.write(SimpleNamespace(image="a.png", **fields), out)
    fields = {"label": None, "probabilities": None, "error": "is broken"}
    writer.write(SimpleNamespace(image="\x1b[2J.png", **fields), out)
    header, row, broken = out.getvalue().splitlines()
    assert header.split() == ["image", "class", "p_ALL"]
    assert row.split() == ["a.png", "ALL", "0.750"]
    assert "\x1b" not in broken
    assert broken.endswith("error: is broken")
    assert writer.is_whole(b"")
    for method in (writer.check_header, writer.read):
        with pytest.raises(ValueError, match="it is a table"):
            method(header)
