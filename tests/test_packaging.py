"""What the project says about its dependencies."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_oldest_set_is_that_of_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", d).groups() for d in project["dependencies"])
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    oldest = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert oldest.keys() == bounds.keys()

    def release(version):
        return (*(int(part) for part in version.split(".")), 0, 0)[:3]

    assert {n: release(v) for n, v in oldest.items()} == {n: release(v) for n, v in bounds.items()}


def test_every_promise_of_the_security_policy_names_a_test_that_exists():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## What is promised")[2].partition("\n## ")[0].split("\n- ")[1:]
    assert len(promises) > 10
    for promise in promises:
        assert re.search(r"test_\w+\.py", promise), promise
    for name in re.findall(r"`((?:src|tests|test_)[\w/.]*)`", text):
        where = ROOT / name
        assert where.exists() or list(ROOT.glob(f"tests/**/{name}")), name
