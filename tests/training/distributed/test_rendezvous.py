from concurrent.futures import ThreadPoolExecutor

from torch._C._distributed_c10d import HashStore

from wavenet.training.distributed.rendezvous import store_of_this_start


def test_processes_find_those_of_their_own_start_in_a_used_store() -> None:
    store = HashStore()

    for size in (3, 3, 2, 4):
        with ThreadPoolExecutor(size) as pool:
            parts = list(
                pool.map(
                    lambda rank, size=size: store_of_this_start(store, rank, size), range(size)
                )
            )

        assert not parts[1].check(["word"]), "keys of an earlier start are visible"
        parts[0].set("word", "yes")
        assert all(part.get("word") == b"yes" for part in parts)
