"""What does Dask cost beside one process, and what survives the loss of workers?"""

import os
import pickle
import tempfile
import time
from pathlib import Path

import dask
import numpy as np
import pandas as pd
from _common import make_parser, report
from distributed import Client, LocalCluster
from PIL import Image
from xgboost import XGBClassifier

from effboost import HybridClassifier, presets
from effboost.dask import DaskHybridClassifier, DaskImageFeaturizer
from effboost.datasets import make_blood_cells

_DISTINCT = 500


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="hard links of 500 cells")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2, help="of both, in turn")
    parser.add_argument("--memory", default="2GB", help="of each of the two workers")
    parser.add_argument("--kill", type=int, default=0, help="kill a worker so often in each stage")
    options = parser.parse_args()
    if options.small:
        options.images = 1000
    # By default, a worker that is killed again after 15 s is not started anew.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"})
    dask.config.set({"logging.distributed": "critical"})
    with tempfile.TemporaryDirectory() as folder:
        table = write_links(Path(folder), options.images)
        if options.kill:
            report("dask_kills", __doc__, kill_rows(table, Path(folder), options.kill))
        else:
            report("dask", __doc__, throughput_rows(table, Path(folder), options))


def write_links(folder, n):
    """Write cells and hard links to them; return a table of paths, labels and subjects."""
    n_distinct = min(_DISTINCT, n)
    cells = make_blood_cells(
        n_subjects=20, images_per_subject=n_distinct // 20, image_size=96, random_state=0
    )
    rows = []
    for i in range(n):
        cell = i % len(cells.images)
        path = folder / f"{i:06d}.png"
        if i < len(cells.images):
            Image.fromarray(cells.images[i]).save(path)
        else:
            os.link(folder / f"{cell:06d}.png", path)
        rows.append((str(path), cells.target[cell], cells.groups[cell]))
    table = pd.DataFrame(rows, columns=["path", "label", "subject"])
    table.to_parquet(folder / "cells.parquet")
    return table


def start_cluster(memory="auto"):
    """Start two worker processes with one thread each."""
    return LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit=memory,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )


def peak_mb():
    """Return the peak memory of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def throughput_rows(table, folder, options):
    model = presets.frozen(
        options.backbone, weights=None, image_size=options.image_size, random_state=0
    )
    local = model.featurizer.fit(table.path[:1].tolist())
    paths = table.path.tolist()
    local.transform(paths[:64])
    # In turn: other work on the machine would favour one of the two.
    seconds = []
    with start_cluster(options.memory) as cluster, Client(cluster) as client:
        featurizer = DaskImageFeaturizer.from_local(local)
        features = featurizer.transform(folder / "cells.parquet")
        graph = len(pickle.dumps(features.__dask_graph__()))
        features.partitions[:2].compute()  # loads the model on both workers
        for _ in range(options.repeats):
            start = time.perf_counter()
            expected = local.transform(paths)
            between = time.perf_counter()
            found = features.compute()
            seconds.append((between - start, time.perf_counter() - between))
        peaks = client.run(peak_mb)
    here, there = np.mean(seconds, axis=0)
    return [
        {
            "images": len(paths),
            "local images/s": len(paths) / here,
            "Dask images/s": len(paths) / there,
            "relative": here / there,
            "largest difference": float(np.abs(found - expected).max()),
            "graph kB": graph / 1000,
            "peak MB of the workers": max(peaks.values()),
        }
    ]


def kill_rows(table, folder, n_kills):
    """Kill a worker in each stage, and compare with the same work without kills."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from common.killing import run_and_kill, wait_for_workers
    from common.networks import tiny_featurizer
    from common.slow import SlowNet, SlowRounds

    booster = XGBClassifier(n_estimators=100, max_depth=3, callbacks=[SlowRounds()])
    hybrid = HybridClassifier(tiny_featurizer(backbone=SlowNet), booster, random_state=0)
    clf = DaskHybridClassifier.from_local(hybrid)
    X = folder / "cells.parquet"
    rows = []
    with start_cluster() as cluster, Client(cluster) as client:
        clf.fit(X, "label", groups="subject")
        expected = clf.transform(X).compute()
        stages = {
            "extraction": ("effboost-transform", lambda: clf.transform(X).compute()),
            "write": ("toparquetdata", lambda: clf.predict_to_parquet(X, folder / f"out{i}")),
            # The last one: the features of a fit may still be on the workers after it.
            "head": ("fn-", lambda: clf.fit(X, "label", groups="subject").evals_result_),
        }
        for stage, (task, work) in stages.items():
            complete = 0
            start = time.perf_counter()
            for i in range(n_kills):
                wait_for_workers(client, 2)
                client.run(SlowRounds.forget)
                ready = SlowRounds.have_begun if stage == "head" else None
                result = run_and_kill(client, work, task, after=0.1 + 0.1 * (i % 5), ready=ready)
                if stage == "extraction":
                    complete += np.array_equal(result, expected)
                elif stage == "head":
                    complete += len(result["train"]["logloss"]) == 100
                else:
                    written = pd.read_parquet(folder / f"out{i}")
                    complete += written.path.tolist() == table.path.tolist()
            seconds = (time.perf_counter() - start) / n_kills
            rows.append({"stage": stage, "kills": n_kills, "complete": complete, "s each": seconds})
    return rows


if __name__ == "__main__":
    main()
