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
from effboost import Augmentation, ImageFeaturizer, ImageSequence
from effboost._transforms import ImageTransform
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
    resized = [np.asarray(transform.resize(image)) for image in map(_pil, pixels)]
    batch = torch.from_numpy(transform.normalize(np.stack(resized)))
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


def test_more_stages_than_there_are_is_told(pixels, three_classes):
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
        "resnet18", weights=None, crop_size=None, image_size=32, max_epochs=1, batch_size=2
    )
    featurizer.fit(pixels[:5], list("ababa"))
    assert len(featurizer.history_) == 1


def test_inception_trains_without_its_auxiliary_head(pixels):
    featurizer = ImageFeaturizer(
        "inception_v3", weights=None, crop_size=None, image_size=75, max_epochs=1, batch_size=4
    )
    assert featurizer.fit(pixels[:4], list("abab")).transform(pixels[:2]).shape == (2, 2048)


def test_two_images_a_class_and_one_epoch_train(pixels):
    featurizer = tuned(max_epochs=1).fit(pixels[:4], [0, 0, 1, 1])
    assert np.isfinite(featurizer.history_[0]["train_loss"])


def test_a_class_missing_from_the_validation_images_is_no_obstacle(pixels, three_classes):
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
        ({"X_val": "pixels"}, UnsupportedInputError, "X_val and y_val belong together"),
        (
            {"X_val": "pixels", "y_val": ["new"] * 24},
            UnsupportedInputError,
            "y_val holds class 'new', which y does not",
        ),
        (
            {"X_val": "pixels", "y_val": "y", "groups_val": "groups", "groups": "groups"},
            LeakageError,
            "the same subject stands on both sides",
        ),
        ({"sample_weight": [0] * 24}, UnsupportedInputError, "not all zero"),
        ({"sample_weight": [-1] * 24}, UnsupportedInputError, "zero or more"),
        ({"groups": [1, 2]}, UnsupportedInputError, "groups has 2 values"),
    ],
)
def test_what_cannot_be_trained_on_is_told(pixels, three_classes, more, error, message):
    known = {"pixels": pixels, "y": three_classes, "groups": np.arange(24)}
    arguments = {"y": three_classes} | {
        name: known[value] if isinstance(value, str) else value for name, value in more.items()
    }
    with pytest.raises(error, match=message):
        tuned().fit(pixels, **arguments)


def test_training_without_augmentation_sees_the_pictures_of_the_evaluation(pixels, three_classes):
    tuned(augmentation=None, max_epochs=1, callbacks=[Recorder()]).fit(pixels, three_classes)
    seen = np.concatenate([inputs["x"].numpy() for inputs, _ in Recorder.batches])
    expected = np.stack([np.asarray(ImageTransform(None, 24).resize(_pil(x))) for x in pixels])
    assert {x.tobytes() for x in seen} == {x.tobytes() for x in expected}


def test_augmented_views_differ_between_epochs_and_never_reach_the_features(pixels, three_classes):
    featurizer = tuned(augmentation=Augmentation(rotation=90), callbacks=[Recorder()])
    featurizer.fit(pixels, three_classes)
    seen = [inputs["x"].numpy() for inputs, _ in Recorder.batches]
    assert len({x.tobytes() for batch in seen for x in batch}) > 40
    assert np.array_equal(featurizer.transform(pixels), featurizer.transform(pixels))


def test_a_small_class_can_have_more_and_stronger_views(pixels):
    y = np.array(["ALL"] * 20 + ["HEM"] * 4)
    stronger = Augmentation(horizontal_flip=1, vertical_flip=0, rotation=0, views=3)
    featurizer = tuned(
        augmentation=None, minority_augmentation=stronger, max_epochs=1, callbacks=[Recorder()]
    )
    featurizer.fit(pixels, y)
    target = np.concatenate([target.numpy() for _, target in Recorder.batches])
    assert np.bincount(target).tolist() == [20, 12]
    seen = np.concatenate([inputs["x"].numpy() for inputs, _ in Recorder.batches])
    resized = [np.asarray(ImageTransform(None, 24).resize(_pil(x))) for x in pixels]
    flipped = {x[:, ::-1].tobytes() for x in resized[20:]}
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
    start = tuned(fine_tune=False).fit(pixels)
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
    featurizer.set_params(fine_tune=False).fit(pixels)
    assert not hasattr(featurizer, "classes_")
    assert featurizer.history_ == []
    assert featurizer.head_ is None


def test_a_loss_that_is_no_number_stops_the_training(pixels, three_classes):
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
