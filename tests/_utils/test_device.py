import threading

import pytest
import torch

from effboost._utils.device import computing, seeded


def draw(seed, n_batches, meeting=None):
    """Draw numbers in a few steps, between which other threads get their turn."""
    drawn = []
    with seeded(seed):
        for _ in range(n_batches):
            if meeting is not None and not meeting.is_set():
                meeting.wait(5)
            with computing():
                drawn.append(torch.rand(3))
    return torch.cat(drawn)


def test_threads_draw_the_same_numbers_as_alone():
    expected = [draw(seed, 40) for seed in range(3)]
    before, found, meeting = torch.get_rng_state(), {}, threading.Event()

    def work(seed):
        found[seed] = draw(seed, 40, meeting)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    meeting.set()
    for thread in threads:
        thread.join(30)
    assert all(torch.equal(found[seed], expected[seed]) for seed in range(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_thread_is_not_kept_waiting_until_another_ends():
    stop, running, others = threading.Event(), threading.Event(), []

    def long():
        with seeded(0):
            while not stop.is_set():
                with computing():
                    running.set()

    trainer = threading.Thread(target=long)
    trainer.start()
    running.wait(5)
    with seeded(1):
        others.append(torch.rand(2))
    assert trainer.is_alive()
    stop.set()
    trainer.join(10)
    assert torch.equal(others[0], draw(1, 1)[:2])


def test_nested_seeds_and_turns_restore_the_generator():
    expected = draw(5, 4)
    with seeded(5):
        first = torch.rand(3)
        with seeded(6):
            torch.rand(9)
        second = torch.rand(3)
        other = threading.Thread(target=draw, args=(7, 2))
        other.start()
        while not _is_wanted():
            pass
        with computing():
            third = torch.rand(3)
        fourth = torch.rand(3)
    other.join(10)
    assert torch.equal(torch.cat([first, second, third, fourth]), expected)


def _is_wanted():
    from effboost._utils.device import _GENERATOR

    return _GENERATOR._lock.is_wanted()


def test_settings_of_cudnn_belong_to_the_thread_that_changed_them():
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    seen = []

    def other():
        with seeded(0):
            seen.append(torch.backends.cudnn.deterministic)

    with seeded(0), flags:
        thread = threading.Thread(target=other)
        thread.start()
        while not _is_wanted():
            pass
        with computing():
            assert torch.backends.cudnn.deterministic
        thread.join(10)
    assert seen == [False]
    assert not torch.backends.cudnn.deterministic


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_recorded_even_if_the_caller_has_disabled_them(mode):
    with mode(), seeded(0):
        layer = torch.nn.Linear(2, 1)
        layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None
    assert not layer.weight.is_inference()


def test_networks_compute_in_full_precision_inside_autocast_of_the_caller():
    with torch.autocast("cpu", torch.bfloat16), computing():
        assert torch.nn.Linear(2, 1)(torch.ones(1, 2)).dtype == torch.float32
