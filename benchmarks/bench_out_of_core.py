"""Boosted trees trained from a file, with memory for a third of the features, and in memory.

Each run is a process of its own: its private memory is limited (RLIMIT_DATA, which does not count
mapped files) to what it uses after loading, plus a third of the features, for the run from a file.
The features are those of a network in number, but random: ten of them tell the classes apart.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from xgboost import XGBClassifier

from effboost._extraction.row_cache import map_temporary_file
from effboost._heads.out_of_core import trains_from_file

N_TEST = 2000


def private_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmData:")[2].split()[0])


def make_features(n_rows, width):
    features = map_temporary_file((n_rows, width), np.float32)
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, n_rows)
    for start in range(0, n_rows, 5000):
        block = rng.standard_normal((len(target[start : start + 5000]), width), dtype=np.float32)
        block[:, :10] += 0.5 * target[start : start + 5000, None]
        features[start : start + 5000] = block
    return features, target


def run(storage, n_rows, width, n_rounds, depth):
    features, target = make_features(n_rows, width)
    booster = XGBClassifier(n_estimators=n_rounds, max_depth=depth, learning_rate=0.35, n_jobs=1)
    # The libraries and their threads are loaded before memory is measured.
    XGBClassifier(n_estimators=1, n_jobs=1).fit(np.array(features[:500]), target[:500])
    base = private_bytes()
    train = features[N_TEST:]
    if storage == "disk":
        limit = base + features.nbytes // 3
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    else:
        train = np.array(train)
    start = time.perf_counter()
    if storage == "disk":
        with trains_from_file(booster):
            booster.fit(train, target[N_TEST:])
    else:
        booster.fit(train, target[N_TEST:])
    seconds = time.perf_counter() - start
    processor = time.process_time()
    accuracy = booster.score(np.array(features[:N_TEST]), target[:N_TEST])
    print(
        json.dumps(
            {
                "storage": storage,
                "feature_mb": features.nbytes / 1e6,
                "limit_mb": features.nbytes / 3e6 if storage == "disk" else None,
                "seconds": seconds,
                "processor_s": processor,
                "accuracy": accuracy,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument(
        "--out", type=Path, default=Path(tempfile.gettempdir()) / "out_of_core.json"
    )
    parser.add_argument("--small", action="store_true", help="a run of seconds")
    parser.add_argument("--storage", choices=["memory", "disk"], help="run one of them here")
    arguments = parser.parse_args()
    sizes = arguments.rows, arguments.width, arguments.rounds, arguments.depth
    if arguments.small:
        sizes = 800_000, 64, 3, 4
    if arguments.storage:
        run(arguments.storage, *sizes)
        return
    results = []
    for storage in ("memory", "disk"):
        command = [sys.executable, __file__, "--storage", storage]
        for name, size in zip(("rows", "width", "rounds", "depth"), sizes, strict=True):
            command += [f"--{name}", str(size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output))
    for row in results:
        limit = "none" if row["limit_mb"] is None else f"{row['limit_mb']:.0f} MB above its base"
        print(
            f"{row['storage']:6}  {row['feature_mb']:.0f} MB of features, limit {limit}: "
            f"{row['seconds']:.1f} s, accuracy {row['accuracy']:.4f}"
        )
    arguments.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
