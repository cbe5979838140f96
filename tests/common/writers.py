"""What other processes run, which must find it by an import."""

from effboost import Cache
from effboost._extraction.cache import digest_of


def key(i):
    """Return the key of an entry that the tests write."""
    return digest_of({"entry": i})


def write_many(folder, first):
    """Write a hundred entries, one by one."""
    cache = Cache(folder)
    for i in range(first, first + 100):
        cache.put({key(i): bytes([i % 256]) * 1000})
