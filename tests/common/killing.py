"""Kill a worker of Dask while it computes."""

import os
import signal
import time
from concurrent.futures import Future
from threading import Thread

import pytest
from distributed import Status


def wait_for_workers(client, n_workers, patience=120.0):
    """Wait until the nannies of a local cluster, and its scheduler, know the same live workers.

    The scheduler alone may still count a worker that has just died. It also counts one that its
    nanny takes for starting, and does not start anew if it dies then.
    """
    deadline = time.monotonic() + patience
    while True:
        running = _running_workers(client)
        if len(running) == n_workers and running == set(client.scheduler_info(-1)["workers"]):
            return
        assert time.monotonic() < deadline, (running, client.cluster.workers)
        time.sleep(0.02)


def _running_workers(client):
    """Return the addresses of the workers that their nannies know to run."""
    processes = [nanny.process for nanny in client.cluster.workers.values()]
    return {p.worker_address for p in processes if p is not None and p.status == Status.running}


def run_and_kill(client, work, task, *, after=0.0, ready=None, patience=200.0):
    """Return the result of `work()`, during which a worker process is killed (SIGKILL).

    It is killed while it computes a task whose name contains `task`, some seconds after it was
    seen to, and not before `ready()`, where given, is true on the worker.
    """
    wait_for_workers(client, 2)
    pids = client.run(os.getpid)
    job = Future()

    def run():
        try:
            job.set_result(work())
        except BaseException as error:
            job.set_exception(error)

    # Neither the caller nor the interpreter waits for this thread at its end, if it hangs.
    Thread(target=run, daemon=True).start()
    while not (victim := _find(client, task, ready)):
        if job.done():
            pytest.fail(f"{task!r} ended before a worker could be killed: {job.result()}")
        time.sleep(0.01)
    time.sleep(after)
    os.kill(pids[victim], signal.SIGKILL)
    while victim in _running_workers(client):
        time.sleep(0.01)
    return job.result(timeout=patience)


def _find(client, task, ready):
    for address, keys in client.processing().items():
        computes = any(task in str(key) for key in keys)
        if computes and (ready is None or client.run(ready, workers=[address])[address]):
            return address
    return None
