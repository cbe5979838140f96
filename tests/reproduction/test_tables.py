from effboost.reproduction._tables import _interval


def test_undefined_values_and_ends_are_shown_as_such():
    assert _interval({"value": None, "low": None, "high": None}) == "—"
    assert _interval({"value": 0.5, "low": None, "high": 0.7}) == "0.500"
    assert _interval({"value": 0.5, "low": 0.4, "high": 0.7}).startswith("0.500 [0.4")
