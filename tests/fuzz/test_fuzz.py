"""The first cases of what `python -m fuzz` runs thirty thousand of."""

from collections import Counter

import pytest

from fuzz.targets import GOOD, run_cases

CASES = [
    ("load", 80),
    ("heads", 900),
    ("graph", 50),
    ("onnx", 150),
    ("images", 600),
    ("cache", 600),
]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "n_cases"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_changed_files_are_refused_or_predict(target, n_cases):
    results = run_cases(target, range(n_cases))
    bad = {number: result for number, result in results.items() if result not in GOOD}
    assert not bad
    counts = Counter(results.values())
    # Most of a cache is free space, and a damaged entry of it is computed again.
    assert counts["refused"] > n_cases / (100 if target == "cache" else 4)
    assert counts["accepted"] > n_cases / 20


def test_cases_are_the_same_each_time():
    numbers = range(60)
    assert run_cases("images", numbers) == run_cases("images", numbers)
