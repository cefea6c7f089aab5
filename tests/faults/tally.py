"""Counts of a test, which its line in the summary shows."""


class Tally:
    """Counts of one test: its line in the summary, and with `--full -s` while it runs."""

    def __init__(self, name: str, *, full: bool = False) -> None:
        self.name = name
        self.full = full
        self.counts: dict[str, int] = {}

    def add(self, what: str, count: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + count

    def show(self) -> None:
        """Print the counts so far: a full run takes an hour."""
        if self.full:
            print(self, flush=True)

    def __str__(self) -> str:
        return f"{self.name}: " + ", ".join(f"{what}: {n}" for what, n in self.counts.items())
