import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from effboost import Augmentation, FineTuning, Regularization, Schedule
from effboost._training.callbacks import _rate_factor


@given(
    st.builds(
        FineTuning,
        schedule=st.sampled_from([None, "cosine"]),
        weight_decay=st.none() | st.floats(0, 1),
        label_smoothing=st.floats(0, 0.99),
    )
)
def test_parameters_survive_json(training):
    assert FineTuning.from_dict(json.loads(json.dumps(training.to_dict()))) == training


@pytest.mark.parametrize("kind", [FineTuning, Regularization, Schedule, Augmentation])
def test_every_parameter_has_a_constraint_and_defaults_pass(kind):
    assert set(kind._parameter_constraints) == set(kind().get_params(deep=False))
    kind().check()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (FineTuning, {"schedule": "cosin"}),
        (FineTuning, {"weight_decay": -1}),
        (FineTuning, {"label_smoothing": 1}),
        (FineTuning, {"max_epochs": 0}),
        (FineTuning, {"trainable": "tail"}),
        (Schedule, {"decay": "linear"}),
        (Schedule, {"warmup_fraction": 1.0}),
        (Schedule, {"unfreezing_epochs": 0.5}),
        (Schedule, {"initial_image_size": 31}),
        (Regularization, {"focal_gamma": -0.5}),
        (Regularization, {"mixup_alpha": "a"}),
        (Regularization, {"cutmix_alpha": math.nan}),
        (Regularization, {"sampling": "balanced"}),
        (Regularization, {"weight_average": True}),
        (Regularization, {"ema_decay": 1.0}),
        (Regularization, {"swa_start": 1.5}),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(kind, wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"'{name}' parameter of {kind.__name__} must be"):
        kind(**wrong).check()


@pytest.mark.parametrize("lr", [(1e-3, 1e-3), (1e-3, 0, 1e-3), ("a", 1, 1)])
def test_wrong_rates_are_refused(lr):
    with pytest.raises(ValueError, match="expected one number above 0, or three"):
        FineTuning(lr=lr).check()


@pytest.mark.parametrize(
    ("training", "name"),
    [
        (FineTuning(augmentation=Augmentation(frozen_views=3)), "frozen_views=3"),
        (FineTuning(minority_augmentation=Augmentation(frozen_views=3)), "frozen_views=3"),
        (FineTuning(regularization=Regularization(ema_decay=0.5)), "ema_decay=0.5"),
        (
            FineTuning(regularization=Regularization(weight_average="ema", swa_start=0.1)),
            "swa_start=0.1",
        ),
    ],
)
def test_a_parameter_without_effect_is_refused(training, name):
    with pytest.raises(ValueError, match=f"{name} has no effect with"):
        training.check()
    assert FineTuning(trainable=2, augmentation=Augmentation(frozen_views=3)).check()


def test_nested_names_work_with_short_forms():
    training = FineTuning(schedule="cosine")
    assert training.get_params()["augmentation__rotation"] == 10
    training.set_params(
        schedule__warmup_fraction=0.1, augmentation__rotation=0, regularization__mixup_alpha=0.2
    )
    assert training.schedule == Schedule("cosine", warmup_fraction=0.1)
    assert training.augmentation == Augmentation(rotation=0)
    assert training.regularization == Regularization(mixup_alpha=0.2)
    assert clone(training) == training
    assert FineTuning().augmentation == "paper"  # its default is not shared


def test_setting_all_parameters_to_their_values_changes_nothing():
    training = FineTuning(schedule="cosine")
    training.set_params(**training.get_params())
    assert repr(training) == "FineTuning(schedule='cosine')"


def test_a_wrong_name_leaves_everything_as_it_was():
    training = FineTuning(schedule=Schedule())
    with pytest.raises(ValueError, match="Invalid parameter 'oops'"):
        training.set_params(max_epochs=9, schedule__decay="cosine", augmentation__oops=1)
    assert training == FineTuning(schedule=Schedule())


@pytest.mark.parametrize(
    ("early_stopping", "patience"),
    [(False, None), (np.False_, None), (True, 5), (np.True_, 5), (1, 1), (3, 3)],
)
def test_patience(early_stopping, patience):
    assert FineTuning(early_stopping=early_stopping).patience == patience


def test_resolved_settings_have_no_short_forms():
    config = FineTuning(optimizer="adamw", schedule="cosine").resolve(torch.device("cpu"), 7)
    assert config.optimizer is torch.optim.AdamW
    assert config.augmentation == Augmentation()
    assert config.schedule == Schedule("cosine")
    assert config.regularization == Regularization()
    assert json.loads(json.dumps(config.to_dict()))["optimizer"] == "AdamW"


def test_rates_rise_linearly_and_fall_along_a_cosine():
    schedule = Schedule("cosine", warmup_fraction=0.3)
    factors = [_rate_factor(schedule, step, 10) for step in range(11)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    falling = [(1 + math.cos(math.pi * i / 7)) / 2 for i in range(8)]
    assert factors[3:] == pytest.approx(falling)
    assert factors[10] == pytest.approx(0)


def test_a_warm_up_alone_ends_at_the_full_rate():
    schedule = Schedule(warmup_fraction=0.5)
    assert [_rate_factor(schedule, step, 4) for step in range(4)] == [1 / 3, 2 / 3, 1, 1]
