from concurrent.futures import ThreadPoolExecutor

from torch._C._distributed_c10d import HashStore

from wavenet.training.distributed.rendezvous import met


def test_processes_meet_those_of_their_own_start_in_a_store_that_others_used() -> None:
    store = HashStore()

    for size in (3, 3, 2, 4):
        with ThreadPoolExecutor(size) as pool:
            parts = list(pool.map(lambda rank, size=size: met(store, rank, size), range(size)))

        assert not parts[1].check(["word"]), "what an earlier start wrote is not seen"
        parts[0].set("word", "yes")
        assert all(part.get("word") == b"yes" for part in parts)
