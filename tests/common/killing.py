"""Kill a worker of Dask while it computes."""

import os
import signal
import time


def kill_worker(client, task, *, after=0.0, patience=60.0):
    """Kill the process of a worker (SIGKILL) that has computed a task of this name for a while.

    Returns the address of the worker.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for address, keys in client.processing().items():
            if any(task in str(key) for key in keys):
                pid = client.scheduler_info(n_workers=-1)["workers"][address]["id"]
                time.sleep(after)
                pid = client.run(os.getpid, workers=[address])[address]
                os.kill(pid, signal.SIGKILL)
                return address
        time.sleep(0.02)
    raise AssertionError(f"no worker computes {task!r}: {client.processing()}")
