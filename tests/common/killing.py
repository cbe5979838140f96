"""Kill a worker of Dask while it computes."""

import os
import signal
import time


def kill_worker(client, task, *, after=0.0, ready=None, patience=60.0):
    """Kill the process of a worker (SIGKILL) while it computes a task of this name.

    Where `ready` is given, not before this function returns True on the worker.

    Returns the address of the worker.
    """
    # One that was killed before may still be listed.
    pids = client.run(os.getpid, on_error="ignore")
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for address, keys in client.processing().items():
            computing = address in pids and any(task in str(key) for key in keys)
            if computing and (ready is None or client.run(ready, workers=[address])[address]):
                time.sleep(after)
                os.kill(pids[address], signal.SIGKILL)
                return address
        time.sleep(0.02)
    raise AssertionError(f"no worker computes {task!r}: {client.processing()}")
