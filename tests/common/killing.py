"""Kill a worker of Dask while it computes."""

import os
import signal
import time


def kill_worker(client, task, *, after=0.0, patience=60.0):
    """Kill the process of a worker (SIGKILL) while it computes a task of this name.

    Returns the address of the worker.
    """
    pids = client.run(os.getpid)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for address, keys in client.processing().items():
            if any(task in str(key) for key in keys):
                time.sleep(after)
                os.kill(pids[address], signal.SIGKILL)
                return address
        time.sleep(0.02)
    raise AssertionError(f"no worker computes {task!r}: {client.processing()}")
