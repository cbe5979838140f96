"""The options of commands that can run on a Dask cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from effboost.cli._options import positive_number

__all__ = ["add_cluster_options", "open_client"]

# Dask's own 15 s are not enough where libraries load slowly: a worker that was lost, and has not
# started anew by then, is given up, and with the last one the command would wait without end.
_PATIENCE: Final = "10 minutes"


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="run on the workers of a Dask cluster, such as tcp://10.0.0.1:8786; they read the "
        "images themselves",
    )
    where.add_argument(
        "--workers",
        type=positive_number,
        metavar="N",
        help="run in N Dask worker processes on this machine, which share its cores",
    )


@contextmanager
def open_client(arguments: argparse.Namespace) -> Iterator[Any]:
    """Connect to a cluster, or start one; without the options, yield None.

    Raises
    ------
    MissingDependencyError
        If Dask is not installed.
    ValueError
        If the scheduler does not answer.
    """
    if arguments.scheduler is None and arguments.workers is None:
        yield None
        return
    import dask
    from distributed import Client, LocalCluster

    import effboost.dask  # noqa: F401, raises the error that names the extra
    from effboost._utils.threads import count_threads

    if arguments.scheduler is not None:
        try:
            client = Client(arguments.scheduler, timeout=5)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"no Dask scheduler answers at {arguments.scheduler!r} ({error}): start one with "
                "`dask scheduler`, or use --workers N on this machine"
            ) from error
        with client:
            yield client
        return
    threads = max(1, count_threads() // arguments.workers)
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": _PATIENCE}),
        LocalCluster(
            n_workers=arguments.workers,
            threads_per_worker=threads,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
