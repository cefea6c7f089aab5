"""Shards: work split over several jobs, `i/n` is shard `i` of `n`, counted from 1.

Which shard an item belongs to depends on its place in the list, so jobs need not communicate.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from wavenet.utils.errors import ConfigError, printable

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every `count`-th item of a list, starting with the `number`-th."""

    number: int  # from 1
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise _invalid(str(self))

    @classmethod
    def from_text(cls, text: str) -> "Shard":
        """Parse a shard such as `3/8`.

        Raises:
            ConfigError: `text` is not a shard.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise _invalid(text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this shard's items in their order."""
        return items[self.number - 1 :: self.count]


def _invalid(text: str) -> ConfigError:
    return ConfigError(
        f"shard must be i/n with i from 1 to n, got {printable(text, 40)!r}: "
        "the first of 8 jobs gets shard=1/8, the last shard=8/8"
    )
