"""Counts of a test, which its line in the summary shows."""


class Tally:
    """Counts of one test: its line in the summary."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: dict[str, int] = {}

    def add(self, what: str, count: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + count

    def __str__(self) -> str:
        return f"{self.name}: " + ", ".join(f"{what}: {n}" for what, n in self.counts.items())
