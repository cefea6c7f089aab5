"""What a finished run, or `wavenet-evaluate`, leaves to read and to hear."""

from dataclasses import dataclass

from wavenet.plain import check

MOST_SECONDS = 1e9
LENGTH = f"positive and at most {MOST_SECONDS:g}, or null"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is measured, and what there is to hear.

    Attributes:
        seconds: Length of each generated recording; 0 for bits per sample alone.
        prompt_seconds: Held-out audio that the continued recording starts from.
        count: Unconditional recordings, of each voice.
        copies: Held-out clips, the longest ones, that a model conditioned by frames speaks again.
        copy_seconds: Length at which they are cut; absent for all of them.
        temperature: Of the draws.
        evaluate_seconds: Held-out audio that the bits per sample cover; absent for all.
    """

    seconds: float = 3.0
    prompt_seconds: float = 1.0
    count: int = 1
    copies: int = 10
    copy_seconds: float | None = 12.0
    temperature: float = 1.0
    evaluate_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "prompt_seconds", "count", "copies", "temperature"):
            check(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in ("copy_seconds", "evaluate_seconds"):
            seconds = getattr(self, name)
            check(seconds is None or 0 < seconds <= MOST_SECONDS, name, LENGTH, seconds)
        for name in ("seconds", "prompt_seconds"):
            length = getattr(self, name)
            check(length <= MOST_SECONDS, name, f"at most {MOST_SECONDS:g}", length)
