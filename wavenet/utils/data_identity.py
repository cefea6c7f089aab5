"""What models record about their data: which clips they were trained on, and the null speaker."""

from dataclasses import dataclass

NULL_SPEAKER = -1  # speaker id that stands for no speaker or an unknown one


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """Identity of the clips in a prepared folder, wherever the folder is."""

    digest: str  # SHA-256 of the manifest in hexadecimal, so of every clip, split and speaker
    train: int  # number of clips to train on
    valid: int  # number of clips to validate on
    test: int  # number of clips to test on

    def __str__(self) -> str:
        return (
            f"{self.digest[:8]} ({self.train} train, {self.valid} valid and {self.test} test clips)"
        )
