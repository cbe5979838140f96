"""Kill a worker of Dask while it computes."""

import os
import signal
import time
from concurrent.futures import Future
from threading import Thread

from distributed import Status


def wait_for_workers(client, n_workers, patience=120.0):
    """Wait for the workers of a local cluster, and for their nannies.

    A nanny does not start a worker anew that dies while the nanny still takes it for starting.
    """
    client.wait_for_workers(n_workers, timeout=patience)
    deadline = time.monotonic() + patience
    while any(nanny.status != Status.running for nanny in client.cluster.workers.values()):
        assert time.monotonic() < deadline, client.cluster.workers
        time.sleep(0.02)


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
        assert not job.done(), f"{task!r} was done before a worker could be killed"
        time.sleep(0.01)
    time.sleep(after)
    os.kill(pids[victim], signal.SIGKILL)
    return job.result(timeout=patience)


def _find(client, task, ready):
    for address, keys in client.processing().items():
        computes = any(task in str(key) for key in keys)
        if computes and (ready is None or client.run(ready, workers=[address])[address]):
            return address
    return None
