import pytest

from wavenet.utils.errors import ConfigError
from wavenet.utils.sharding import Shard


def test_a_shard_is_parsed_and_printed() -> None:
    shard = Shard.from_text("3/8")

    assert (shard.number, shard.count) == (3, 8)
    assert str(shard) == "3/8"


@pytest.mark.parametrize(
    "text", ["", "3", "0/8", "9/8", "0/0", "-1/8", "3/8/2", "3 / 8", "a/b", "3/8\n", "٣/8"]
)
def test_an_invalid_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="shard must be i/n with i from 1 to n.*shard=1/8"):
        Shard.from_text(text)


@pytest.mark.parametrize("count", [1, 3, 10, 12])
def test_every_item_of_a_list_is_in_exactly_one_shard(count: int) -> None:
    items = list(range(10))
    shards = [Shard(number, count) for number in range(1, count + 1)]

    shares = [shard.of(items) for shard in shards]

    assert sorted(item for share in shares for item in share) == items
    assert shares == [items[first::count] for first in range(count)]
