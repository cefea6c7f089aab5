"""How processes that are started together find each other, and none of an earlier start.

torchrun keeps one store over all its restarts, and it still holds the keys of processes that have
died since. So each process writes a fresh random token, and process 0 publishes the tokens that it
read; a process that finds its own token among them knows that the others belong to this start.
"""

import datetime
import secrets
import time

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from wavenet.training.distributed.launcher import Launch

START_TIMEOUT = datetime.timedelta(minutes=30)  # between the first process and the last
POLL_SECONDS = 0.02


def rendezvous_store(launch: Launch) -> Store:
    """Return a store shared by exactly the processes of this start, once all have come.

    Raises:
        RuntimeError: They do not come.
    """
    store: Store
    if launch.address is None:
        store, _, _ = next(rendezvous("env://", timeout=START_TIMEOUT))
    else:
        host, port = launch.address
        store = TCPStore(host, port, launch.size, launch.rank == 0, START_TIMEOUT)
    return store_of_this_start(store, launch.rank, launch.size)


def store_of_this_start(store: Store, rank: int, size: int) -> Store:
    """Return the part of a store that belongs to the processes of this start, once all have come.

    Args:
        store: What they share; an earlier start may have left keys in it.
        rank: This process.
        size: Number of processes.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + START_TIMEOUT.total_seconds()
    store.set(f"token/{rank}", token)
    while time.monotonic() < deadline:
        if rank == 0:
            store.set("tokens", " ".join(_read(store, f"token/{peer}") for peer in range(size)))
            peers = range(1, size)
            if all(_read_if_set(store, f"confirmed/{peer}") == token for peer in peers):
                return PrefixStore(token, store)
        else:
            tokens = _read(store, "tokens").split()
            if len(tokens) == size and tokens[rank] == token:
                store.set(f"confirmed/{rank}", tokens[0])
                return PrefixStore(tokens[0], store)
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{size} processes did not all start")


def _read_if_set(store: Store, key: str) -> str:
    """Return a key's value, empty if it has none."""
    return _read(store, key) if store.check([key]) else ""


def _read(store: Store, key: str) -> str:
    """Wait until a key has a value; return it."""
    return bytes(store.get(key)).decode()
