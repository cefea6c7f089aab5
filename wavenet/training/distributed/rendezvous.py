"""How processes that are started together find each other, and no one of an earlier start.

torchrun keeps one store over all its restarts, and what processes that are dead now wrote there is
still in it. So each process writes a name that it has just made up, and process 0 says whose names
it read; whoever finds its own among them knows that the others are of its time.
"""

import datetime
import secrets
import time

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from wavenet.training.distributed.launcher import Launch

START = datetime.timedelta(minutes=30)  # between the first process and the last


def meeting(launch: Launch) -> Store:
    """Return a store that all processes of this start have, when all have come.

    Raises:
        RuntimeError: They do not come.
    """
    store: Store
    if launch.address is None:
        store, _, _ = next(rendezvous("env://", timeout=START))
    else:
        host, port = launch.address
        store = TCPStore(host, port, launch.size, launch.rank == 0, START)
    return met(store, launch.rank, launch.size)


def met(store: Store, rank: int, size: int) -> Store:
    """Return the part of a store that belongs to the processes of this start, when all are there.

    Args:
        store: What they share, with what others may have left in it.
        rank: This process.
        size: How many there are.
    """
    own, until = secrets.token_hex(8), time.monotonic() + START.total_seconds()
    store.set(f"name/{rank}", own)
    while time.monotonic() < until:
        if rank == 0:
            names = [_text(store, f"name/{other}") for other in range(size)]
            store.set("names", " ".join(names))
            if all(_said(store, f"met/{other}") == own for other in range(1, size)):
                return PrefixStore(own, store)
        else:
            names = _text(store, "names").split()
            if len(names) == size and names[rank] == own:
                store.set(f"met/{rank}", names[0])
                return PrefixStore(names[0], store)
        time.sleep(0.02)
    raise RuntimeError(f"{size} processes do not come together")


def _said(store: Store, key: str) -> str:
    """Return what a key says, if anything."""
    return _text(store, key) if store.check([key]) else ""


def _text(store: Store, key: str) -> str:
    """Return what a key says, when it says something."""
    return bytes(store.get(key)).decode()
