"""Which clips a model is trained on, and which of them are held out: what identifies a data set."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """Identity of the clips in a prepared folder, wherever the folder is.

    Attributes:
        digest: SHA-256 of the manifest in hexadecimal, so of every clip, its split and its speaker.
        train: Number of clips to train on.
        valid: Number of clips to validate on.
        test: Number of clips to test on.
    """

    digest: str
    train: int
    valid: int
    test: int

    def __str__(self) -> str:
        return (
            f"{self.digest[:8]} ({self.train} train, {self.valid} valid and {self.test} test clips)"
        )
