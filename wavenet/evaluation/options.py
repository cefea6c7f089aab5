"""Options of an evaluation: of `wavenet-evaluate`, and of the report of a finished run."""

import os
from dataclasses import dataclass
from pathlib import Path

from wavenet.utils.dataclass_io import Options, option

MAX_SECONDS = 1e9
MAX_SEED = 2**63 - 1
PAGE = "evaluation.html"


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
    temperature: float = option(
        1.0,
        "Sampling temperature; that of the model, or 0.85 for models with a linear predictor from "
        "the mel and 1 for others",
        ge=0,
        derived=True,
    )
    voiced_temperature: float | None = option(
        None,
        "That of voiced sounds, for models with a linear predictor from the mel; null for "
        "temperature",
        ge=0,
    )
    eval_seconds: float | None = option(
        None, "Held-out audio for bits per sample; null for all", gt=0, le=MAX_SECONDS
    )


def default_page(model_dir: Path, *, is_own: bool) -> Path:
    """Return where the listening page of a model belongs: beside the model directory.

    It is in the current folder where the parent cannot be written, or is not the user's: that of a
    model that ships with the package or is in the hub's cache.

    Args:
        model_dir: The model directory.
        is_own: Whether it was given as a folder, not by name.
    """
    named = model_dir if model_dir.name not in ("", "..") else model_dir.resolve()
    own = is_own and os.access(named.parent, os.W_OK)
    return named.with_name(PAGE) if own else Path(PAGE)
