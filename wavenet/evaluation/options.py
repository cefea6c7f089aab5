"""Options of an evaluation: of `wavenet-evaluate`, and of the report of a finished run."""

from dataclasses import dataclass

from wavenet.utils.dataclass_io import Options, option

MAX_SECONDS = 1e9
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Options):
    """Which measures are taken, and which recordings are generated."""

    sample_seconds: float = option(
        3.0, "Length of each generated recording; 0 for no report", ge=0, le=MAX_SECONDS
    )
    prompt_seconds: float = option(
        1.0, "Held-out audio before the continued recording", ge=0, le=MAX_SECONDS
    )
    num_samples: int = option(1, "Unconditional recordings, per speaker", ge=0)
    num_resynthesis: int = option(
        10, "Held-out clips, the longest, for resynthesis from their features", ge=0
    )
    resynthesis_seconds: float | None = option(
        12.0, "Longest part of those clips; null for all", gt=0, le=MAX_SECONDS
    )
    mel_consistency: int = option(
        3,
        "Passes that give resynthesis and controls the mel of the clip, beside the raw ones; 0 for "
        "none",
        ge=0,
        le=1000,
    )
    temperature: float = option(1.0, "Sampling temperature", ge=0)
    voiced_temperature: float | None = option(
        None,
        "That of voiced sounds, for models with a linear predictor from the mel; null for "
        "temperature",
        ge=0,
    )
    eval_seconds: float | None = option(
        None, "Held-out audio for bits per sample; null for all", gt=0, le=MAX_SECONDS
    )
