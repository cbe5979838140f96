"""Feed damaged files to effboost, in processes with little memory: `cd tests; python -m fuzz load`.

Prints how many were refused and accepted, and how many crashed the process, took longer than five
seconds or more than a gigabyte, gave values that are not probabilities or wrong features, or failed
with anything but an EffboostError; each of the latter with its number, by which `--case` runs it
again. Exits with 1 if there were any.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter

import psutil

from fuzz.targets import GOOD, KNOWN, TARGETS

__all__ = ["main"]

SECONDS = 5  # of the processor
PATIENCE = 60  # by the clock, on a machine that may be busy
BYTES = 2**30


def work(name, first, step, last, pipe):
    """Run every `step`-th case, and send what came of each."""
    target = TARGETS[name]()
    with tempfile.TemporaryDirectory() as folder:
        target.warm_up(folder)
        _limit_memory()
        before = _peak()
        for number in range(first, last, step):
            pipe.send((number, None))
            result = target.run(number, folder)
            if _peak() - before > BYTES:
                result = "memory"
            pipe.send((number, result))
        pipe.send((last, "done"))


def _limit_memory():
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + BYTES, in_use + BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def follow(name, numbers, n_workers):
    """Run all cases; return counts, and what came of each that did not end well."""
    context = multiprocessing.get_context("spawn")
    counts, bad = Counter(), {}
    last = numbers[-1] + 1
    workers = [_start(context, name, numbers[0] + i, n_workers, last) for i in range(n_workers)]
    while workers:
        for worker in list(workers):
            number, result = _listen(worker)
            if result is None:
                continue
            if result in ("crash", "hang"):
                worker["process"].kill()
                workers.append(_start(context, name, number + n_workers, n_workers, last))
            if result in ("crash", "hang", "done"):
                workers.remove(worker)
            if result == "done":
                continue
            counts[result if result in KNOWN else "other failure"] += 1
            if sum(counts.values()) % 1000 == 0:
                print(dict(counts), file=sys.stderr)
            if result not in GOOD:
                bad[number] = result
                print(f"case {number}: {result}", file=sys.stderr)
    return counts, bad


def _start(context, name, first, step, last):
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(name, first, step, last, theirs), daemon=True)
    process.start()
    theirs.close()
    return {"process": process, "pipe": ours, "number": first, "since": None}


def _listen(worker):
    """Return a number and what came of it; None if nothing has yet."""
    try:
        if not worker["pipe"].poll(0.02):
            return worker["number"], "hang" if _is_late(worker) else None
        number, result = worker["pipe"].recv()
    except EOFError:
        return worker["number"], "crash"
    worker["number"] = number
    worker["since"] = (time.monotonic(), _seconds_of(worker)) if result is None else None
    return number, result


def _is_late(worker):
    if worker["since"] is None:
        return False
    clock, processor = worker["since"]
    return time.monotonic() - clock > PATIENCE or _seconds_of(worker) - processor > SECONDS


def _seconds_of(worker):
    """Return the time of the processor that a worker has used."""
    try:
        times = psutil.Process(worker["process"].pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=30_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--case", type=int, help="run this one alone, in this process")
    options = parser.parse_args()
    if options.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(TARGETS[options.target]().run(options.case, folder))
        return 0
    numbers = range(options.first, options.first + options.cases)
    counts, bad = follow(options.target, numbers, options.workers)
    print(f"{sum(counts.values())} cases: {dict(counts)}")
    return 1 if bad else 0
