"""A fitted model in each process of the workers, sent there once."""

from __future__ import annotations

import hashlib
import threading
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import cloudpickle
from distributed import Client, WorkerPlugin, get_client, get_worker

from effboost._utils.device import resolve_device
from effboost.exceptions import UnsupportedInputError

__all__ = ["find_model", "resolve_client", "send_model"]

# The names of the models that each client has sent.
_SENT: Final[WeakKeyDictionary[Client, set[str]]] = WeakKeyDictionary()
# The models of this process: several workers may run in it.
_LOADED: Final[WeakValueDictionary[str, Any]] = WeakValueDictionary()
_LOADING: Final = threading.Lock()


class ModelPlugin(WorkerPlugin):
    """A fitted model on a worker; it is loaded, and its runtime started, when first needed.

    The scheduler keeps the plugin, and hands it to workers that start later. So a model outlives
    the workers that it was sent to, which scattered data does not.

    Parameters
    ----------
    name : str
        Its name, with a hash of its content.
    content : bytes
        The pickled model.
    """

    idempotent = True

    def __init__(self, name: str, content: bytes):
        self.name, self._content = name, content
        self._model: Any = None

    def model(self) -> Any:
        """Return the model, loaded once in a process."""
        with _LOADING:
            if self._model is None:
                self._model = _LOADED.get(self.name) or cloudpickle.loads(self._content)
                _LOADED[self.name] = self._model
            return self._model


def send_model(client: Client, model: Any) -> str:
    """Send a fitted model to all workers of a cluster, also to those that start later.

    Parameters
    ----------
    client : Client
        Of the cluster.
    model : estimator
        Fitted. Its network is exported here, so that no worker has to.

    Returns
    -------
    str
        The name by which `find_model` finds it on a worker. A model of equal content is sent once.
    """
    extractor = getattr(getattr(model, "featurizer_", model), "_extractor", None)
    if extractor is not None:
        device = getattr(model, "featurizer_", model).device
        extractor.start(resolve_device(device, or_cpu=True))
    content = cloudpickle.dumps(model)
    name = f"effboost-{hashlib.sha256(content).hexdigest()[:32]}"
    sent = _SENT.setdefault(client, set())
    if name not in sent:
        client.register_plugin(ModelPlugin(name, content), name=name)
        sent.add(name)
    return name


def find_model(name: str) -> Any:
    """Return a model in a task on a worker."""
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, ModelPlugin):
        raise UnsupportedInputError(
            f"this worker does not have the model {name!r}: a lazy result is computed on the "
            "cluster that the model was sent to"
        )
    return plugin.model()


def resolve_client(client: Client | None) -> Client:
    """Return a client, or the current one of Dask.

    Raises
    ------
    UnsupportedInputError
        If there is none.
    """
    if client is not None:
        return client
    try:
        return get_client()
    except ValueError as error:
        raise UnsupportedInputError(
            "there is no Dask client: create one first, for example by "
            "`from distributed import Client; client = Client()`"
        ) from error
