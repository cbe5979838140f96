"""Check that the packages of the extra "dask" are installed."""

from effboost._utils.compat import load_extra

__all__: list[str] = []

for _name in ("distributed", "dask.array", "dask.bag", "dask.dataframe"):
    load_extra(_name, "dask")
