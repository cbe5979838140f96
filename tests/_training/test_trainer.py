"""Training, by the estimators that use it: what they learn, keep, record and refuse."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from common.networks import tiny_featurizer
from effboost import (
    Augmentation,
    FineTuning,
    ImageFeaturizer,
    ImageSequence,
    ImageTransform,
    Regularization,
    Schedule,
)
from effboost._training.module import TrainingModule
from effboost.exceptions import (
    ImageDecodeError,
    LeakageError,
    SplitError,
    TrainingError,
    UnsupportedInputError,
)


def tuned(**params):
    settings = {"fine_tune": True, "max_epochs": 2, "batch_size": 8, "lr": 0.02}
    return tiny_featurizer(**(settings | params))


def state_of(featurizer):
    return {key: value.clone() for key, value in featurizer.module_.state_dict().items()}


def same_state(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


class PlainNet(nn.Module):
    """A network without batch norms, whose weights alone decide."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.Conv2d(6, 8, 3))
        self.classifier = nn.Linear(8, 1000)

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


class Recorder(Callback):
    """Keeps what training saw, in lists that survive the copies scikit-learn makes."""

    batches = ()
    datasets = ()

    def on_train_begin(self, net, **_):
        type(self).batches, type(self).datasets = [], []

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **_):
        self.datasets.append((dataset_train, dataset_valid))

    def on_batch_begin(self, net, batch, training, **_):
        if training:
            self.batches.append(batch)


def test_training_learns_what_a_small_network_can(pixels, three_classes):
    featurizer = tuned(max_epochs=15).fit(pixels, three_classes)
    assert featurizer.history_[-1]["train_acc"] > 0.9
    assert featurizer.history_[-1]["train_loss"] < featurizer.history_[0]["train_loss"]
    assert featurizer.classes_.tolist() == ["blast", "healthy", "other"]
    assert featurizer.transform(pixels).shape == (24, 8)


def test_the_history_is_plain_numbers_of_each_epoch(pixels, three_classes):
    featurizer = tuned().fit(pixels, three_classes, X_val=pixels, y_val=three_classes)
    history = json.loads(json.dumps(featurizer.history_))
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    names = {"epoch", "dur", "train_loss", "train_acc", "valid_loss", "valid_acc"}
    assert set(history[0]) == names
    assert tuned().fit(pixels, three_classes).history_[0].keys() == names - {
        "valid_loss",
        "valid_acc",
    }


def test_the_same_seed_gives_the_same_bits_and_another_gives_others(pixels, three_classes):
    one, same, other = (
        state_of(tuned(random_state=seed).fit(pixels, three_classes)) for seed in (1, 1, 2)
    )
    assert same_state(one, same)
    assert not same_state(one, other)


def test_torchs_own_generator_is_left_as_it_was(pixels, three_classes):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tuned().fit(pixels, three_classes)
    assert torch.equal(torch.rand(3), expected)


def test_ctrl_c_in_an_epoch_ends_training_and_keeps_the_former_fit(pixels, three_classes):
    class Interrupt(Callback):
        def on_batch_end(self, net, **_):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    featurizer = tuned().fit(pixels, three_classes)
    before, features = state_of(featurizer), featurizer.transform(pixels)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    featurizer.callbacks = [Interrupt()]
    with pytest.raises(KeyboardInterrupt):
        featurizer.fit(pixels, three_classes)
    assert same_state(before, state_of(featurizer))
    assert np.array_equal(featurizer.transform(pixels), features)
    assert torch.equal(torch.rand(3), expected)


def test_a_broken_image_stops_training_by_its_position(paths, three_classes):
    Path(paths[7]).write_bytes(b"\x89PNG broken")
    featurizer = tuned()
    with pytest.raises(ImageDecodeError, match="cell_07"):
        featurizer.fit(paths, three_classes)
    assert not hasattr(featurizer, "module_")


def test_early_stopping_goes_back_to_the_best_epoch(pixels, three_classes):
    """Without batch norms, the loss of the best epoch can be computed again from the weights."""
    featurizer = tuned(
        backbone=PlainNet, max_epochs=60, early_stopping=2, lr=0.3, normalize="imagenet"
    ).fit(pixels[:16], three_classes[:16], X_val=pixels[16:], y_val=three_classes[16:])
    losses = [epoch["valid_loss"] for epoch in featurizer.history_]
    assert len(losses) < 60
    assert int(np.argmin(losses)) == len(losses) - 3
    scores = torch.from_numpy(featurizer.transform(pixels[16:]))
    scores = featurizer.head_(scores)
    target = torch.from_numpy(np.searchsorted(featurizer.classes_, three_classes[16:]))
    assert nn.functional.cross_entropy(scores, target).item() == pytest.approx(
        min(losses), rel=1e-4
    )


def test_early_stopping_cuts_whole_subjects_off(pixels, three_classes):
    subjects = np.array([f"S{i % 12}" for i in range(24)])
    images = ImageSequence(pixels, groups=subjects)
    tuned(early_stopping=True, validation_fraction=0.3, callbacks=[Recorder()]).fit(
        images, three_classes
    )
    train, valid = Recorder.datasets[0]
    assert not set(train.images.groups) & set(valid.images.groups)
    assert len(train.images) + len(valid.images) == 24
    assert set(valid.target) == {0, 1, 2}


def test_early_stopping_without_subjects_enough_says_why_not(pixels, three_classes):
    with pytest.raises(SplitError, match="class 'blast' has 1 subject"):
        tuned(early_stopping=True).fit(pixels, three_classes, groups=three_classes)


def test_batch_norms_hold_the_statistics_of_the_training_images(pixels, three_classes):
    """Of the first one they can be computed by hand: the mean over what its convolution gives."""
    featurizer = tuned(batch_size=12).fit(pixels, three_classes)
    transform = ImageTransform(None, 24)
    row_cache = [np.asarray(transform.prepare(image)) for image in map(_pil, pixels)]
    batch = torch.from_numpy(transform.normalize_pixels(np.stack(row_cache)))
    with torch.no_grad():
        out = featurizer.module_.features[0](batch)
    norm = featurizer.module_.features[1]
    assert torch.allclose(norm.running_mean, out.mean(dim=(0, 2, 3)), atol=1e-5)
    assert norm.momentum == 0.1


def _pil(array):
    from PIL import Image

    return Image.fromarray(array)


def test_frozen_batch_norms_keep_their_statistics(pixels, three_classes):
    featurizer = tuned(freeze_batch_norm=True).fit(pixels, three_classes)
    norm = featurizer.module_.features[1]
    assert torch.equal(norm.running_mean, torch.zeros(6))
    assert torch.equal(norm.running_var, torch.ones(6))
    assert not torch.equal(norm.weight, torch.ones(6))


def test_frozen_batch_norms_train_as_if_they_were_layers_of_their_own(
    pixels, three_classes, monkeypatch
):
    lean = tuned(freeze_batch_norm=True).fit(pixels, three_classes)
    monkeypatch.setattr(TrainingModule, "make_lean", lambda self: None)
    plain = tuned(freeze_batch_norm=True).fit(pixels, three_classes)
    losses, expected = (
        [epoch["train_loss"] for epoch in found.history_] for found in (lean, plain)
    )
    assert losses == pytest.approx(expected, rel=1e-4)
    for key, value in state_of(plain).items():
        assert torch.allclose(state_of(lean)[key], value, atol=1e-3), key


class Stops(Callback):
    """Notes whether layers are changed, and stops."""

    network = folded = None

    def on_batch_end(self, net, training, **_):
        type(self).network = net.module_
        type(self).folded = "forward" in vars(net.module_.body.features[0])
        raise RuntimeError("stopped")


def test_an_error_leaves_the_layers_as_they_were(pixels, three_classes):
    with pytest.raises(RuntimeError, match="stopped"):
        tuned(freeze_batch_norm=True, callbacks=[Stops()]).fit(pixels, three_classes)
    assert Stops.folded
    assert not any("forward" in vars(part) for part in Stops.network.modules())


def test_the_head_alone_leaves_the_network_as_it_was(pixels, three_classes):
    frozen = tiny_featurizer().fit(pixels)
    head_only = tuned(trainable="head", max_epochs=20, lr=0.5).fit(pixels, three_classes)
    assert same_state(state_of(frozen), state_of(head_only))
    assert np.array_equal(frozen.transform(pixels), head_only.transform(pixels))
    losses = [epoch["train_loss"] for epoch in head_only.history_]
    assert losses[-1] < losses[0]


def test_the_last_stages_alone_are_trained(pixels, three_classes):
    start = state_of(tiny_featurizer().fit(pixels))
    last = state_of(tuned(trainable=2).fit(pixels, three_classes))
    changed = {key for key in start if not torch.equal(start[key], last[key])}
    assert changed
    assert all(key.startswith(("features.3", "features.4")) for key in changed)


def test_more_stages_than_the_network_has_raise(pixels, three_classes):
    with pytest.raises(ValueError, match="trainable=9, but 'TinyNet' has 4 stages"):
        tuned(trainable=9).fit(pixels, three_classes)


def test_after_training_everything_is_in_evaluation_mode_on_the_cpu(pixels, three_classes):
    module = tuned(trainable=2).fit(pixels, three_classes).module_
    assert not any(part.training for part in module.modules())
    assert all(p.requires_grad and p.device.type == "cpu" for p in module.parameters())
    assert all(p.grad is None for p in module.parameters())


def test_images_of_weight_zero_are_as_if_they_were_not_there(pixels, three_classes):
    weight = np.ones(24)
    weight[[3, 10, 11]] = 0
    keep = weight > 0
    one = tuned().fit(pixels, three_classes, sample_weight=weight)
    other = tuned().fit(pixels[keep], three_classes[keep])
    assert same_state(state_of(one), state_of(other))


def test_class_weights_are_sample_weights(pixels, three_classes):
    weight = np.where(three_classes == "blast", 3.0, 1.0)
    one = tuned(class_weight={"blast": 3.0}).fit(pixels, three_classes)
    other = tuned().fit(pixels, three_classes, sample_weight=weight)
    assert same_state(state_of(one), state_of(other))
    assert not same_state(state_of(one), state_of(tuned().fit(pixels, three_classes)))


@pytest.mark.parametrize(("n", "sizes"), [(17, {8, 9}), (16, {8}), (23, {7, 8}), (5, {5})])
def test_a_last_batch_of_one_image_joins_the_one_before(pixels, three_classes, n, sizes):
    tuned(callbacks=[Recorder()]).fit(pixels[:n], three_classes[:n])
    seen = [len(target) for _, target in Recorder.batches]
    assert set(seen) == sizes
    assert sum(seen) == 2 * n


def test_a_last_image_trains_a_network_that_ends_in_one_pixel(pixels):
    """Where a batch norm sees one value a channel, torch refuses to train on one image."""
    featurizer = ImageFeaturizer(
        "resnet18",
        weights=None,
        training=FineTuning(max_epochs=1, batch_size=2),
        transform=ImageTransform(crop_size=None, image_size=32),
    )
    featurizer.fit(pixels[:5], list("ababa"))
    assert len(featurizer.history_) == 1


@pytest.mark.slow
def test_inception_trains_without_its_auxiliary_head(pixels):
    featurizer = ImageFeaturizer(
        "inception_v3",
        weights=None,
        training=FineTuning(max_epochs=1, batch_size=4),
        transform=ImageTransform(crop_size=None, image_size=75),
    )
    assert featurizer.fit(pixels[:4], list("abab")).transform(pixels[:2]).shape == (2, 2048)


def test_two_images_a_class_and_one_epoch_train(pixels):
    featurizer = tuned(max_epochs=1).fit(pixels[:4], [0, 0, 1, 1])
    assert np.isfinite(featurizer.history_[0]["train_loss"])


def test_a_class_may_be_missing_from_the_validation_images(pixels, three_classes):
    here = three_classes != "other"
    featurizer = tuned(early_stopping=True).fit(
        pixels, three_classes, X_val=pixels[here], y_val=three_classes[here]
    )
    assert np.isfinite(featurizer.history_[-1]["valid_loss"])


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"y": None}, UnsupportedInputError, "requires y to be passed"),
        ({"y": ["a"] * 24}, UnsupportedInputError, "one class only, 'a'"),
        ({"X_val": "pixels"}, UnsupportedInputError, "only one of X_val and y_val was passed"),
        (
            {"X_val": "pixels", "y_val": ["new"] * 24},
            UnsupportedInputError,
            "y_val has the class 'new', which is not in y",
        ),
        (
            {"X_val": "pixels", "y_val": "y", "groups_val": "groups", "groups": "groups"},
            LeakageError,
            "in both parts of the split",
        ),
        ({"sample_weight": [0] * 24}, UnsupportedInputError, "zero for all images"),
        ({"sample_weight": [-1] * 24}, UnsupportedInputError, "0 or more"),
        ({"groups": [1, 2]}, UnsupportedInputError, "groups has 2 values"),
    ],
)
def test_unsuitable_training_data_raise(pixels, three_classes, more, error, message):
    known = {"pixels": pixels, "y": three_classes, "groups": np.arange(24)}
    arguments = {"y": three_classes} | {
        name: known[value] if isinstance(value, str) else value for name, value in more.items()
    }
    with pytest.raises(error, match=message):
        tuned().fit(pixels, **arguments)


def test_training_without_augmentation_uses_the_images_of_the_evaluation(pixels, three_classes):
    tuned(augmentation=None, max_epochs=1, callbacks=[Recorder()]).fit(pixels, three_classes)
    seen = np.concatenate([inputs["x"].numpy() for inputs, _ in Recorder.batches])
    expected = np.stack([np.asarray(ImageTransform(None, 24).prepare(_pil(x))) for x in pixels])
    assert {x.tobytes() for x in seen} == {x.tobytes() for x in expected}


def test_augmented_views_differ_between_epochs_and_never_reach_the_features(pixels, three_classes):
    featurizer = tuned(augmentation=Augmentation(rotation=90), callbacks=[Recorder()])
    featurizer.fit(pixels, three_classes)
    seen = [inputs["x"].numpy() for inputs, _ in Recorder.batches]
    assert len({x.tobytes() for batch in seen for x in batch}) > 40
    assert np.array_equal(featurizer.transform(pixels), featurizer.transform(pixels))


def test_a_small_class_can_have_more_and_stronger_views(pixels):
    y = np.array(["ALL"] * 20 + ["HEM"] * 4)
    stronger = Augmentation(horizontal_flip=1, vertical_flip=0, rotation=0, n_views=3)
    featurizer = tuned(
        augmentation=None, minority_augmentation=stronger, max_epochs=1, callbacks=[Recorder()]
    )
    featurizer.fit(pixels, y)
    target = np.concatenate([target.numpy() for _, target in Recorder.batches])
    assert np.bincount(target).tolist() == [20, 12]
    seen = np.concatenate([inputs["x"].numpy() for inputs, _ in Recorder.batches])
    row_cache = [np.asarray(ImageTransform(None, 24).prepare(_pil(x))) for x in pixels]
    flipped = {x[:, ::-1].tobytes() for x in row_cache[20:]}
    assert {x.tobytes() for x in seen[target == 1]} == flipped


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", torch.optim.NAdam])
def test_other_optimizers_train(pixels, three_classes, optimizer):
    featurizer = tuned(optimizer=optimizer).fit(pixels, three_classes)
    assert np.isfinite(featurizer.history_[-1]["train_loss"])


def test_skorch_callbacks_are_called(pixels, three_classes):
    schedule = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.1)
    featurizer = tuned(callbacks=[schedule]).fit(pixels, three_classes)
    assert [epoch["event_lr"] for epoch in featurizer.history_] == pytest.approx([0.02, 0.002])


class Optimizer(torch.optim.SGD):
    """Keeps the rate of each parameter, by its shape."""

    rates = None

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        type(self).rates = {
            tuple(p.shape): group["lr"] for group in self.param_groups for p in group["params"]
        }


@pytest.mark.parametrize(("features", "top"), [("pooled", (3, 8)), ("logits", (1000, 8))])
def test_stem_middle_and_top_learn_at_rates_of_their_own(pixels, three_classes, features, top):
    tuned(lr=(1e-6, 1e-4, 1e-2), optimizer=Optimizer, features=features).fit(pixels, three_classes)
    stem, middle = (6, 3, 3, 3), (8, 6, 3, 3)
    assert {shape: Optimizer.rates[shape] for shape in (stem, middle, top)} == {
        stem: 1e-6,
        middle: 1e-4,
        top: 1e-2,
    }


def test_three_equal_rates_train_as_one_does(pixels, three_classes):
    one, three = (tuned(lr=lr).fit(pixels, three_classes) for lr in (0.02, (0.02, 0.02, 0.02)))
    for key, value in state_of(one).items():
        torch.testing.assert_close(value, three.module_.state_dict()[key])


def test_rates_go_with_frozen_stages_and_a_schedule(pixels, three_classes):
    schedule = LRScheduler(torch.optim.lr_scheduler.MultiStepLR, milestones=[1], gamma=0.1)
    featurizer = tuned(lr=[1e-3, 1e-3, 0.5], trainable="head", callbacks=[schedule])
    start = tiny_featurizer().fit(pixels)
    assert same_state(state_of(featurizer.fit(pixels, three_classes)), state_of(start))


@pytest.mark.parametrize("lr", [(1e-3, 1e-3), (1e-3, 0, 1e-3), [1, "2", 3]])
def test_other_numbers_of_rates_are_refused(pixels, three_classes, lr):
    with pytest.raises(ValueError, match="one number above 0, or three"):
        tuned(lr=lr).fit(pixels, three_classes)


def test_mixed_precision_trains_float32_weights(pixels, three_classes):
    featurizer = tuned(precision="mixed", max_epochs=4).fit(pixels, three_classes)
    assert all(p.dtype == torch.float32 for p in featurizer.module_.parameters())
    exact = tuned(max_epochs=4).fit(pixels, three_classes)
    assert featurizer.history_ != exact.history_
    assert featurizer.history_[0]["train_loss"] == pytest.approx(
        exact.history_[0]["train_loss"], rel=0.05
    )


def test_logits_train_the_original_layer_over_its_first_outputs(pixels, three_classes):
    featurizer = tuned(features="logits", max_epochs=15).fit(pixels, three_classes)
    logits = featurizer.transform(pixels)
    assert logits.shape == (24, 1000)
    assert featurizer.head_ is None
    right = featurizer.classes_[logits[:, :3].argmax(axis=1)] == three_classes
    assert right.mean() > 0.8


def test_progress_and_the_table_go_to_stderr(pixels, three_classes, capsys):
    tuned(verbose=2).fit(pixels, three_classes)
    out, err = capsys.readouterr()
    assert out == ""
    assert "train_loss" in err
    assert "0/3" in err
    tuned().fit(pixels, three_classes)
    assert capsys.readouterr() == ("", "")


def test_a_refit_without_training_forgets_the_classes(pixels, three_classes):
    featurizer = tuned().fit(pixels, three_classes)
    featurizer.set_params(training=None).fit(pixels)
    assert not hasattr(featurizer, "classes_")
    assert featurizer.history_ == []
    assert featurizer.head_ is None


def test_a_loss_that_is_not_finite_stops_the_training(pixels, three_classes):
    featurizer = tiny_featurizer(
        fine_tune=True, max_epochs=4, batch_size=8, lr=1e30, optimizer="sgd"
    )
    with pytest.raises(TrainingError, match=r"became (nan|inf) in epoch \d: the learning rate"):
        featurizer.fit(pixels, three_classes)
    assert not hasattr(featurizer, "module_")


def test_a_class_of_weight_zero_is_not_trained_on(pixels, three_classes):
    featurizer = tiny_featurizer(
        fine_tune=True, max_epochs=1, batch_size=4, class_weight={"blast": 0.0}
    )
    featurizer.fit(pixels, three_classes)
    assert featurizer.classes_.tolist() == ["blast", "healthy", "other"]
    assert np.isfinite(featurizer.history_[0]["train_loss"])


@pytest.mark.parametrize("moment", ["on_epoch_begin", "on_epoch_end"])
def test_ctrl_c_between_epochs_is_obeyed_too(pixels, three_classes, moment):
    class Presses(Callback):
        pass

    def press(self, net, **_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    setattr(Presses, moment, press)
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=3, callbacks=[Presses()])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        featurizer.fit(pixels, three_classes)
    assert not hasattr(featurizer, "module_")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_callback_that_stops_early_still_may(pixels, three_classes):
    class Stops(Callback):
        def on_epoch_end(self, net, **_):
            raise KeyboardInterrupt  # skorch's own way

    featurizer = tiny_featurizer(fine_tune=True, max_epochs=3, callbacks=[Stops()])
    assert len(featurizer.fit(pixels, three_classes).history_) == 1


@pytest.mark.parametrize(("switch", "epochs"), [(np.True_, 3), (np.False_, 3)])
def test_numpys_booleans_are_booleans(pixels, three_classes, switch, epochs):
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=epochs, early_stopping=switch)
    history = featurizer.fit(pixels, three_classes).history_
    assert ("valid_loss" in history[0]) == bool(switch)
    assert len(history) == epochs


def by(recipe, **params):
    return tuned(**recipe, **params)


@pytest.mark.parametrize("params", [{}, {"trainable": 2}, {"early_stopping": 1}])
def test_a_recipe_that_asks_for_nothing_changes_no_bit(pixels, three_classes, params):
    nothing = {"schedule": Schedule(), "regularization": Regularization()}
    one, other = (tuned(**r, **params) for r in ({}, nothing))
    for featurizer in (one, other):
        featurizer.fit(pixels, three_classes)
        for epoch in featurizer.history_:
            del epoch["dur"]
    assert same_state(state_of(one), state_of(other))
    assert one.history_ == other.history_


RECIPES = [
    {"schedule": "cosine"},
    {"warmup_fraction": 0.5},
    {"weight_decay": 0.1},
    {"label_smoothing": 0.2},
    {"focal_gamma": 2},
    {"mixup_alpha": 0.4},
    {"cutmix_alpha": 1.0},
    {"sampling": "class"},
    {"weight_average": "ema"},
    {"weight_average": "swa", "swa_start": 0},
    {"unfreezing_epochs": 1},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_each_recipe_trains_differently_and_the_same_seed_gives_the_same_bits(
    pixels, three_classes, recipe
):
    one, same = (state_of(by(recipe).fit(pixels, three_classes)) for _ in range(2))
    assert same_state(one, same)
    assert not same_state(one, state_of(tuned().fit(pixels, three_classes)))


ALL = {
    "schedule": "cosine",
    "warmup_fraction": 0.1,
    "weight_decay": 1e-3,
    "label_smoothing": 0.1,
    "focal_gamma": 1,
    "mixup_alpha": 0.2,
    "cutmix_alpha": 1.0,
    "sampling": "class_subject",
    "weight_average": "ema",
    "ema_decay": 0.9,
    "unfreezing_epochs": 1,
}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"trainable": 2},
        {"early_stopping": 2, "validation_fraction": 0.3},
        {"lr": (1e-3, 1e-2, 0.1), "precision": "mixed"},
        {"features": "logits", "freeze_batch_norm": True},
        {"minority_augmentation": Augmentation(n_views=2), "class_weight": "balanced"},
    ],
    ids=str,
)
def test_all_options_work_together_with_every_kind_of_training(
    pixels, three_classes, subjects, params
):
    featurizers = [by(ALL, max_epochs=5, **params) for _ in range(2)]
    one, same = (
        featurizer.fit(pixels, three_classes, groups=subjects) for featurizer in featurizers
    )
    assert same_state(state_of(one), state_of(same))
    assert np.isfinite(one.transform(pixels)).all()
    assert not any(part.training for part in one.module_.modules())
    assert all(p.requires_grad and p.grad is None for p in one.module_.parameters())


def test_recipes_learn_what_a_small_network_can(pixels, three_classes):
    recipe = ALL | {"unfreezing_epochs": 0}
    featurizer = by(recipe, max_epochs=25, normalize="imagenet").fit(pixels, three_classes)
    with torch.no_grad():
        scores = featurizer.head_(torch.from_numpy(featurizer.transform(pixels)))
    right = featurizer.classes_[scores.argmax(dim=1).numpy()] == three_classes
    assert right.mean() > 0.9


class Rates(Callback):
    """Keeps the learning rates of each step."""

    steps = ()

    def on_train_begin(self, net, **_):
        type(self).steps = []

    def on_batch_begin(self, net, batch, training, **_):
        if training:
            self.steps.append([group["lr"] for group in net.optimizer_.param_groups])


def test_every_step_has_its_rate_and_all_rates_change_by_the_same_factor(pixels, three_classes):
    rates = (1e-4, 1e-3, 1e-2)
    recipe = {"schedule": "cosine", "warmup_fraction": 0.25}
    featurizer = by(recipe, lr=rates, max_epochs=4, callbacks=[Rates()])
    featurizer.fit(pixels, three_classes, X_val=pixels, y_val=three_classes)
    warm = [1 / 4, 2 / 4, 3 / 4]
    factors = warm + [(1 + np.cos(np.pi * i / 9)) / 2 for i in range(9)]
    expected = np.outer(factors, rates)
    np.testing.assert_allclose(np.sort(Rates.steps, axis=1)[:, [0, -1]], expected[:, [0, -1]])
    assert {len(set(step)) for step in Rates.steps} == {3}


class Decaying(torch.optim.SGD):
    given = None

    def __init__(self, params, lr, weight_decay=0.25):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        type(self).given = {group["weight_decay"] for group in self.param_groups}


@pytest.mark.parametrize(("asked", "given"), [(None, 0.25), (0.0, 0.0), (0.5, 0.5)])
def test_weight_decay_reaches_the_optimizer(pixels, three_classes, asked, given):
    featurizer = by({"weight_decay": asked}, optimizer=Decaying, lr=(1e-3, 1e-3, 1e-2))
    featurizer.fit(pixels, three_classes)
    # Norms and biases are exempt from a decay that was chosen.
    assert Decaying.given == ({given, 0.0} if asked else {given})


@pytest.mark.parametrize("recipe", [{"label_smoothing": 0.2}, {"focal_gamma": 2}], ids=str)
def test_losses_are_weighted_and_validation_is_plain_cross_entropy(pixels, three_classes, recipe):
    """In one epoch of one batch whose rate is next to 0, both can be computed by hand."""
    weight = np.arange(1.0, 25)
    featurizer = by(
        recipe, backbone=PlainNet, lr=1e-12, batch_size=24, max_epochs=1, augmentation=None
    )
    featurizer.fit(pixels, three_classes, sample_weight=weight, X_val=pixels, y_val=three_classes)
    with torch.no_grad():
        scores = featurizer.head_(torch.from_numpy(featurizer.transform(pixels)))
    target = torch.from_numpy(np.searchsorted(featurizer.classes_, three_classes))
    plain = nn.functional.cross_entropy(scores, target, reduction="none")
    p = torch.exp(-plain)
    if "focal_gamma" in recipe:
        losses = (1 - p) ** 2 * plain
    else:
        losses = nn.functional.cross_entropy(scores, target, reduction="none", label_smoothing=0.2)
    (epoch,) = featurizer.history_
    expected = np.average(losses.numpy(), weights=weight)
    assert epoch["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert epoch["valid_loss"] == pytest.approx(plain.mean().item(), rel=1e-5)


@pytest.mark.parametrize("params", [{}, {"trainable": 2}, {"trainable": "head"}], ids=str)
def test_mixed_batches_carry_both_classes_and_both_weights(pixels, three_classes, params):
    weight = np.where(three_classes == "blast", 3.0, 1.0)
    featurizer = by({"mixup_alpha": 1.0}, callbacks=[Recorder()], **params)
    featurizer.fit(pixels, three_classes, sample_weight=weight, X_val=pixels, y_val=three_classes)
    assert len(Recorder.batches) == 6
    of_class = torch.tensor([3.0, 1.0, 1.0])
    for inputs, target in Recorder.batches:
        greater = inputs["weight"] / of_class[target]
        lesser = inputs["other_weight"] / of_class[inputs["other"]]
        torch.testing.assert_close(greater + lesser, torch.ones(8))
        assert (greater >= 0.5).all()
        assert sorted(inputs["other"].tolist()) == sorted(target.tolist())


def test_the_loss_of_mixed_images_is_that_of_their_mixed_targets(pixels, three_classes):
    featurizer = by(
        {"mixup_alpha": 1.0},
        backbone=PlainNet,
        lr=1e-12,
        batch_size=24,
        max_epochs=1,
        callbacks=[Recorder()],
    ).fit(pixels, three_classes)
    ((inputs, target),) = Recorder.batches
    soft = torch.zeros(24, 3)
    soft[range(24), target] += inputs["weight"]
    soft[range(24), inputs["other"]] += inputs["other_weight"]
    x = ImageTransform(None, 24).normalize_pixels(inputs["x"].numpy())
    with torch.no_grad():
        scores = featurizer.head_(featurizer.module_(torch.from_numpy(x)))
    expected = nn.functional.cross_entropy(scores, soft).item()
    assert featurizer.history_[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_cutmix_needs_maps(pixels, three_classes):
    featurizer = by({"cutmix_alpha": 1.0}, trainable="head")
    with pytest.raises(ValueError, match=r"needs maps.*\(8, 1, 1\).*mixup_alpha"):
        featurizer.fit(pixels, three_classes)
    by({"cutmix_alpha": 1.0}, trainable=2).fit(pixels, three_classes)


@pytest.mark.parametrize("params", [{}, {"trainable": 2}], ids=str)
def test_sampling_draws_classes_and_subjects_equally_often(pixels, params):
    y = np.array(["ALL"] * 20 + ["HEM"] * 4)
    groups = np.array(["p"] * 15 + ["q"] * 5 + ["r"] * 4)
    common = {"max_epochs": 40, "batch_size": 24, "augmentation": None, **params}

    def count(sampling):
        featurizer = by({"sampling": sampling}, callbacks=[Recorder()], **common)
        weight = np.ones(24)
        weight[15:20] = 2.0  # so that batches tell subject q from p
        featurizer.fit(pixels, y, groups=groups, sample_weight=weight)
        drawn = [(target.numpy(), inputs["weight"].numpy()) for inputs, target in Recorder.batches]
        target, weight = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        assert len(target) == 40 * 24
        return np.array([(target == 1).mean(), (weight == 2).mean()])

    assert count(None).tolist() == [4 / 24, 5 / 24]
    np.testing.assert_allclose(count("class"), [1 / 2, 1 / 8], atol=0.06)
    np.testing.assert_allclose(count("subject"), [1 / 3, 1 / 3], atol=0.06)
    np.testing.assert_allclose(count("class_subject"), [1 / 2, 1 / 4], atol=0.06)


def test_sampled_classes_stay_even_where_one_has_more_views(pixels):
    y = np.array(["ALL"] * 20 + ["HEM"] * 4)
    views = Augmentation(n_views=3)
    featurizer = by(
        {"sampling": "class"}, minority_augmentation=views, max_epochs=30, callbacks=[Recorder()]
    )
    featurizer.fit(pixels, y)
    target = np.concatenate([target.numpy() for _, target in Recorder.batches])
    assert len(target) == 30 * 32
    assert target.mean() == pytest.approx(0.5, abs=0.06)


class HeadPath(Callback):
    """Keeps the head's weights after each step."""

    weights = ()

    def on_train_begin(self, net, **_):
        type(self).weights = []

    def on_batch_end(self, net, training, **_):
        if training:
            self.weights.append(net.module_.head.weight.detach().numpy().copy())


@pytest.mark.parametrize("validated", [False, True])
def test_the_network_becomes_the_average_of_its_weights(pixels, three_classes, validated):
    recipe = {"weight_average": "ema", "ema_decay": 0.5}
    featurizer = by(recipe, max_epochs=3, callbacks=[HeadPath()])
    more = {"X_val": pixels, "y_val": three_classes} if validated else {}
    featurizer.fit(pixels, three_classes, **more)
    expected = HeadPath.weights[0]
    for t, weights in enumerate(HeadPath.weights[1:], start=1):
        kept = min(0.5, (1 + t) / (10 + t))
        expected = kept * expected + (1 - kept) * weights
    assert len(HeadPath.weights) == 9
    np.testing.assert_allclose(featurizer.head_.weight.detach(), expected, rtol=1e-4, atol=1e-6)
    tuned(max_epochs=3, callbacks=[HeadPath()]).fit(pixels, three_classes, **more)
    assert not np.allclose(HeadPath.weights[-1], expected)


def test_averaging_leaves_the_training_itself_as_it_is(pixels, three_classes):
    tuned(max_epochs=3, callbacks=[HeadPath()]).fit(pixels, three_classes)
    alone = HeadPath.weights
    featurizer = by({"weight_average": "swa"}, max_epochs=3, callbacks=[HeadPath()])
    featurizer.fit(pixels, three_classes, X_val=pixels, y_val=three_classes)
    np.testing.assert_array_equal(HeadPath.weights, alone)


def test_validation_and_early_stopping_look_at_the_average(pixels, three_classes):
    """The loss of the best epoch can be computed again, batch norms and all."""
    featurizer = by(
        {"weight_average": "ema", "ema_decay": 0.8},
        max_epochs=60,
        early_stopping=2,
        lr=0.3,
        normalize="imagenet",
    ).fit(pixels[:16], three_classes[:16], X_val=pixels[16:], y_val=three_classes[16:])
    losses = [epoch["valid_loss"] for epoch in featurizer.history_]
    assert len(losses) < 60
    with torch.no_grad():
        scores = featurizer.head_(torch.from_numpy(featurizer.transform(pixels[16:])))
    target = torch.from_numpy(np.searchsorted(featurizer.classes_, three_classes[16:]))
    assert nn.functional.cross_entropy(scores, target).item() == pytest.approx(
        min(losses), rel=1e-4
    )


def test_callbacks_get_the_averaged_weights(pixels, three_classes):
    """What scikit-learn's callbacks are handed after the last epoch is what fit gives."""
    seen = []

    class Follower:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context, **_):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **_):
            if context.task_name == "epoch" and fitted_estimator is not None:
                seen.append(fitted_estimator.transform(pixels))

    featurizer = by({"weight_average": "ema"}, max_epochs=3)
    featurizer.set_callbacks(Follower()).fit(pixels, three_classes)
    assert len(seen) == 3
    np.testing.assert_allclose(seen[-1], featurizer.transform(pixels), rtol=1e-4, atol=1e-6)
    assert not np.allclose(seen[0], seen[-1])


class Stages(Callback):
    """Keeps the state of the network at the end of each epoch."""

    states = ()

    def on_train_begin(self, net, **_):
        type(self).states = []

    def on_epoch_end(self, net, **_):
        state = net.module_.body.state_dict()
        self.states.append({key: value.clone() for key, value in state.items()})


def test_stages_stay_to_the_bit_until_their_epoch(pixels, three_classes):
    start = state_of(tiny_featurizer().fit(pixels))
    featurizer = by({"unfreezing_epochs": 2}, max_epochs=6, callbacks=[Stages()])
    featurizer.fit(pixels, three_classes)
    moved = [
        {key.rpartition(".")[0] for key in start if not torch.equal(start[key], state[key])}
        for state in Stages.states
    ]
    one, two = {"features.4"}, {"features.4", "features.3"}
    assert moved == [set(), set(), one, one, two, two]
    # What it never got to is as it was, batch norms included.
    end = state_of(featurizer)
    assert all(torch.equal(end[key], start[key]) for key in start if key < "features.2")


def test_stages_that_are_frozen_for_good_stay_so(pixels, three_classes):
    start = state_of(tiny_featurizer().fit(pixels))
    recipe = {"unfreezing_epochs": 1}
    end = state_of(by(recipe, trainable=1, max_epochs=4).fit(pixels, three_classes))
    moved = {key.rpartition(".")[0] for key in start if not torch.equal(start[key], end[key])}
    assert moved == {"features.4"}


def test_the_best_epochs_frozen_stages_keep_their_statistics(pixels, three_classes):
    """A last stage that diverges as soon as it is unfrozen: the first epochs are the best."""
    start = state_of(tiny_featurizer().fit(pixels))
    featurizer = by(
        {"unfreezing_epochs": 2}, lr=(1e-3, 100.0, 0.05), max_epochs=8, early_stopping=1
    )
    featurizer.fit(pixels, three_classes, X_val=pixels, y_val=three_classes)
    assert int(np.argmin([epoch["valid_loss"] for epoch in featurizer.history_])) == 1
    assert same_state(start, state_of(featurizer))


class Sizes(Callback):
    """Keeps the sides of the images that reach the network."""

    trained = validated = ()

    def on_train_begin(self, net, **_):
        type(self).trained, type(self).validated = [], []

        def note(body, inputs):
            (self.trained if body.training else self.validated).append(inputs[0].shape[-1])

        self.handle = net.module_.body.register_forward_pre_hook(note)

    def on_train_end(self, net, **_):
        self.handle.remove()


def growing(first, **params):
    schedule = Schedule(initial_image_size=first)
    return tuned(**({"image_size": 96, "schedule": schedule} | params))


def test_training_images_grow_and_others_have_the_full_size(pixels, three_classes):
    featurizer = growing(32, max_epochs=4, batch_size=50, callbacks=[Sizes()])
    featurizer.fit(pixels, three_classes, X_val=pixels, y_val=three_classes)
    n_steps = len(Sizes.trained) // 4
    assert Sizes.trained == np.repeat([32, 64, 64, 96], n_steps).tolist()
    assert set(Sizes.validated) == {96}
    plain = growing(None, max_epochs=4, batch_size=50).fit(pixels, three_classes)
    assert not same_state(state_of(plain), state_of(featurizer))


def test_growing_images_give_the_same_bits_for_the_same_seed(pixels, three_classes):
    settings = {"max_epochs": 3, "regularization": Regularization(mixup_alpha=0.2)}
    one, same = (state_of(growing(48, **settings).fit(pixels, three_classes)) for _ in range(2))
    assert same_state(one, same)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"trainable": 1}, "initial_image_size=64 has no effect with trainable=1"),
        ({"max_epochs": 1}, "initial_image_size=64 has no effect with max_epochs=1"),
        ({"image_size": 64}, r"initial_image_size=64 is not smaller than the images \(64 pixels"),
    ],
    ids=str,
)
def test_growing_images_that_cannot_grow_are_refused(pixels, three_classes, params, message):
    with pytest.raises(ValueError, match=message):
        growing(64, **params).fit(pixels, three_classes)


class OneSize(PlainNet):
    """A network that takes images of 96 pixels alone, as vision transformers do."""

    def forward(self, x):
        assert x.shape[-1] == 96, "wrong image height"
        return super().forward(x)


def test_a_network_for_one_size_refuses_growing_images(pixels, three_classes):
    featurizer = growing(64, backbone=OneSize)
    with pytest.raises(ValueError, match=r"does not take images of this size \(wrong image height"):
        featurizer.fit(pixels, three_classes)


def test_gradients_have_one_place_from_the_first_step_on(pixels, three_classes):
    class Watch(Callback):
        places, sums = (), ()

        def on_train_begin(self, net, **_):
            type(self).places, type(self).sums = [], []

        def on_grad_computed(self, net, named_parameters, **_):
            grads = [p.grad for _, p in named_parameters if p.requires_grad]
            self.places.append([grad.data_ptr() for grad in grads])
            self.sums.append(sum(float(grad.abs().sum()) for grad in grads))

    tuned(max_epochs=3, lr=1e-9, callbacks=[Watch()]).fit(pixels, three_classes)
    assert len(Watch.places) == 9
    assert all(places == Watch.places[0] for places in Watch.places)
    # The network is always the same: gradients that were summed over the steps would grow.
    assert sum(Watch.sums[6:]) < 2 * sum(Watch.sums[:3])


def test_ctrl_c_with_a_recipe_keeps_the_former_fit(pixels, three_classes):
    class Interrupt(Callback):
        def on_batch_end(self, net, **_):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    featurizer = by(ALL).fit(pixels, three_classes)
    before = state_of(featurizer)
    featurizer.callbacks = [Interrupt()]
    with pytest.raises(KeyboardInterrupt):
        featurizer.fit(pixels, three_classes)
    assert same_state(before, state_of(featurizer))
