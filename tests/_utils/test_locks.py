import os
import threading
import time
import warnings

import pytest

from effboost._utils.locks import ForkableLock, QueuedLock, SharedLock, ignore_warnings


def start(*targets):
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
        time.sleep(0.05)  # so that they ask for a lock in this order
    return threads


def join(threads):
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_queued_lock_is_given_to_threads_in_order():
    lock, got = QueuedLock(), []

    def take(name):
        with lock:
            got.append(name)

    with lock, lock:
        waiting = start(*(lambda name=name: take(name) for name in "abc"))
        assert lock.is_wanted()
        assert got == []
    join(waiting)
    assert got == ["a", "b", "c"]
    assert not lock.is_mine()


def test_queued_lock_that_is_handed_on_returns_after_the_waiting_threads():
    lock, got = QueuedLock(), []

    def take(name):
        with lock:
            got.append(name)

    with lock, lock:
        waiting = start(lambda: take("first"), lambda: take("second"))
        lock.hand_on()
        assert lock.is_mine()
        got.append("holder")
    join(waiting)
    assert got == ["first", "second", "holder"]


def test_interrupted_wait_for_a_queued_lock_leaves_it_usable(monkeypatch):
    lock = QueuedLock()
    with lock:
        with monkeypatch.context() as patch:
            patch.setattr(lock._changed, "wait_for", lambda _: (_ for _ in ()).throw(KeyError))
            with pytest.raises(KeyError):
                lock.hand_on()
        assert not lock.is_mine()
    join(start(lambda: lock.__enter__().__exit__()))
    assert not lock.is_wanted()


def test_shared_lock_is_held_together_and_alone():
    lock, together, log = SharedLock(), threading.Barrier(3), []

    def share():
        with lock.shared(), lock.shared():
            together.wait(5)

    join(start(share, share, lambda: together.wait(5)))

    def alone():
        with lock.alone(), lock.shared(), lock.alone():
            log.append("alone")

    def late():
        with lock.shared():
            log.append("late")

    with lock.shared():
        waiting = start(alone, late)
        assert log == []
        with lock.shared():  # a nested block does not wait for the thread that waits for it
            pass
    join(waiting)
    assert log == ["alone", "late"]


def test_thread_that_shares_a_lock_is_refused_to_hold_it_alone():
    lock = SharedLock()
    with lock.shared(), pytest.raises(RuntimeError, match="cannot hold it alone"), lock.alone():
        pass
    with lock.alone():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_forked_child_finds_locks_of_other_threads_free():
    forkable, queued, shared, alone = ForkableLock(), QueuedLock(), SharedLock(), SharedLock()
    held, done = threading.Event(), threading.Event()

    def hold():
        with forkable, queued, shared.shared(), alone.alone():
            held.set()
            done.wait(10)

    holder = start(hold)
    held.wait(10)
    child = os.fork()
    if not child:
        with forkable, queued, shared.alone(), alone.shared():
            os._exit(7)
    for _ in range(100):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    done.set()
    join(holder)
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_child_still_holds_the_locks_of_the_thread_that_forked():
    forkable, queued, shared = ForkableLock(), QueuedLock(), SharedLock()
    with forkable, queued, shared.shared():
        child = os.fork()
        if not child:
            taken = []
            other = threading.Thread(target=lambda: taken.append(forkable._lock.acquire(False)))
            other.start()
            other.join()
            os._exit(7 if taken == [False] and queued.is_mine() and shared._n_sharing == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_threads_that_ignore_warnings_do_not_change_the_filters():
    before = list(warnings.filters)
    first_is_in, second_asks = threading.Event(), threading.Event()

    def first():
        with ignore_warnings():
            first_is_in.set()
            second_asks.wait(5)
            time.sleep(0.1)
            warnings.warn("not seen", stacklevel=1)

    def second():
        first_is_in.wait(5)
        second_asks.set()
        with ignore_warnings():
            time.sleep(0.2)

    join(start(first, second))
    assert list(warnings.filters) == before
