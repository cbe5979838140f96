"""Labelled images, and clusters: threads of this process, and two worker processes."""

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from PIL import Image


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """60 noisy images of three classes and 20 subjects, as a table of their paths."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    n = 60
    pixels = rng.integers(0, 120, (n, 40, 40, 3), dtype=np.uint8)
    pixels[np.arange(n), :, :, np.arange(n) % 3] += 100
    paths = [str(folder / f"cell_{i:02d}.png") for i in range(n)]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture).save(path)
    labels = np.array(["blast", "healthy", "other"])[np.arange(n) % 3]
    subjects = [f"S{i // 3}" for i in range(n)]
    return pd.DataFrame({"path": paths, "label": labels, "subject": subjects})


@pytest.fixture(scope="module", name="X")
def table(cells):
    return dd.from_pandas(cells, npartitions=4)


@pytest.fixture(scope="module")
def client():
    """A worker with two threads in this process."""
    settings = {"processes": False, "n_workers": 1, "threads_per_worker": 2}
    with Client(**settings, dashboard_address="127.0.0.1:0") as client:
        yield client


@pytest.fixture
def processes():
    """Two worker processes with one thread each, for a test that may kill some."""
    # The log tells of workers that are killed, which the tests do.
    with (
        dask.config.set(
            {
                "logging.distributed": "critical",
                # A worker that is killed again after 15 s, by default, is not started anew.
                "distributed.deploy.lost-worker-timeout": "10 minutes",
            }
        ),
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
