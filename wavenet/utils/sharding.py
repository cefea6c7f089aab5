"""A share of work that several jobs do side by side, said as `i/n`: share `i` of `n`, from 1.

What is whose depends on the place in the list alone, so that jobs need not know of each other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from wavenet.utils.errors import ConfigError, printable

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every `count`-th item of a list, from the `number`-th on.

    Attributes:
        number: Which share this is, from 1.
        count: How many there are.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise _wrong(str(self))

    @classmethod
    def from_text(cls, text: str) -> "Shard":
        """Return the shard that `text` says, such as `3/8`.

        Raises:
            ConfigError: It says none.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise _wrong(text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def takes(self, index: int) -> bool:
        """Return whether item `index` of a list, from 0, is this shard's."""
        return index % self.count == self.number - 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this shard's items, in their order."""
        return items[self.number - 1 :: self.count]


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        f"shard must be i/n with i from 1 to n, got {printable(text, 40)!r}: "
        "of 8 jobs the first says shard=1/8, the last shard=8/8"
    )
