import threading

import numpy as np
import pytest

from effboost._utils.shared_results import compute_once, find_shared, share_results


class Counter:
    def __init__(self):
        self.n = 0

    def __call__(self):
        self.n += 1
        return np.arange(3)


def test_a_result_is_computed_once_in_a_block_and_each_time_outside():
    count, owner = Counter(), object()
    for _ in range(2):
        compute_once((owner,), "name", count)
    assert count.n == 2
    with share_results():
        for _ in range(3):
            np.testing.assert_array_equal(compute_once((owner,), "name", count), np.arange(3))
    assert count.n == 3


def test_results_of_other_owners_or_names_are_computed():
    count, owner = Counter(), [1]
    with share_results():
        for owners, name in (((owner,), "a"), (([1],), "a"), ((owner,), "b"), ((owner, 2), "a")):
            compute_once(owners, name, count)
    assert count.n == 4


def test_a_caller_may_change_the_result():
    owner = object()
    with share_results():
        compute_once((owner,), "name", Counter())[:] = 7
        np.testing.assert_array_equal(compute_once((owner,), "name", Counter()), np.arange(3))


def test_a_block_inside_another_shares_with_it_and_nothing_is_kept_afterwards():
    count, owner = Counter(), object()
    with share_results():
        with share_results():
            compute_once((owner,), "name", count)
        compute_once((owner,), "name", count)
        assert find_shared((owner,), "name") is not None
        assert find_shared((owner,), "other") is None
    assert count.n == 1
    assert find_shared((owner,), "name") is None


def test_an_error_is_not_kept():
    owner, calls = object(), []

    def fail_once():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("first")
        return 5

    with share_results():
        with pytest.raises(ValueError, match="first"):
            compute_once((owner,), "name", fail_once)
        assert compute_once((owner,), "name", fail_once) == 5


def test_another_thread_shares_nothing():
    owner, found = object(), []
    with share_results():
        compute_once((owner,), "name", Counter())
        thread = threading.Thread(target=lambda: found.append(find_shared((owner,), "name")))
        thread.start()
        thread.join()
    assert found == [None]
