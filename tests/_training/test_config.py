import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effboost import FineTuning
from effboost._training.config import rate_factor


@given(
    st.builds(
        FineTuning,
        schedule=st.sampled_from([None, "cosine"]),
        weight_decay=st.none() | st.floats(0, 1),
        label_smoothing=st.floats(0, 0.99),
        sampling=st.sampled_from([None, "class", "subject", "class_subject"]),
        weight_average=st.sampled_from([None, "ema", "swa"]),
        gradual_unfreezing=st.integers(0, 9),
    )
)
def test_a_recipe_survives_json(recipe):
    assert FineTuning.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_every_field_has_a_constraint_and_does_nothing_by_default():
    names = {field.name for field in dataclasses.fields(FineTuning)}
    assert set(FineTuning._parameter_constraints) == names
    on = {name: value for name, value in FineTuning().to_dict().items() if value}
    assert on == {"ema_decay": 0.99, "swa_start": 0.5}  # of use with weight_average alone


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "cosin"},
        {"warmup_fraction": 1.0},
        {"weight_decay": -1},
        {"label_smoothing": 1},
        {"focal_gamma": -0.5},
        {"mixup_alpha": "a"},
        {"cutmix_alpha": math.nan},
        {"sampling": "balanced"},
        {"weight_average": True},
        {"ema_decay": 1.0},
        {"swa_start": 1.5},
        {"gradual_unfreezing": 0.5},
    ],
    ids=str,
)
def test_recipes_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter of FineTuning must be"):
        FineTuning(**wrong)


def test_rates_rise_in_a_line_and_fall_along_a_cosine():
    recipe = FineTuning(schedule="cosine", warmup_fraction=0.3)
    factors = [rate_factor(recipe, step, 10) for step in range(11)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    falling = [(1 + math.cos(math.pi * i / 7)) / 2 for i in range(8)]
    assert factors[3:] == pytest.approx(falling)
    assert factors[10] == pytest.approx(0)


def test_a_warm_up_alone_ends_at_the_full_rate():
    recipe = FineTuning(warmup_fraction=0.5)
    assert [rate_factor(recipe, step, 4) for step in range(4)] == [1 / 3, 2 / 3, 1, 1]
