"""What an evaluation says in one sentence: whether a model is better than a baseline.

A vocoder is compared with Griffin-Lim from the same mel, which needs no training, by what is heard:
PESQ and STOI, or the mel distance where those are not installed. Passes of mel consistency set the
mel distance, so only as many passes on both sides compare it; PESQ and STOI are compared with the
stronger of Griffin-Lim and Griffin-Lim with those passes. What is within `Measure.tolerance` makes
nothing better. Any other model is compared with adaptive linear prediction, by bits per sample.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from wavenet.evaluation.baselines import GRIFFIN_LIM
from wavenet.evaluation.metrics import ResynthesisMetrics
from wavenet.evaluation.synthesis import RESYNTHESIS, consistent, passes_text

BASELINE = "adaptive_linear_prediction"
MAX_DECIMALS = 4


class Measure(NamedTuple):
    """A metric of a verdict: which sign is better, how it is shown, and up to what it is a tie."""

    name: str
    field: str
    sign: int
    decimals: int
    tolerance: float
    unit: str = ""


HEARD = (
    Measure("PESQ", "pesq", 1, 2, 0.05),
    Measure("STOI", "stoi", 1, 3, 0.005),
    Measure("mel distance", "mel_db", -1, 2, 0.05, " dB"),
)


class Verdict(NamedTuple):
    """Whether a model is better than its baseline, and a sentence.

    `is_better` is `None` if measures disagree or all are about the same.
    """

    is_better: bool | None
    text: str


def judge(
    bits_per_sample: Mapping[str, float],
    means: Mapping[str, ResynthesisMetrics],
    *,
    model: str,
    passes: int = 0,
) -> Verdict | None:
    """Return the verdict on a model; `None` if neither of its baselines was measured.

    Args:
        bits_per_sample: By name, of the model and of the baselines.
        means: Mean metrics of resynthesis by name, those after passes by that of `consistent`.
        model: The model's name in the first.
        passes: Of mel consistency, after which the second has what it generates.
    """
    comparison = _against_griffin_lim(means, passes)
    if comparison is not None:
        return comparison.verdict
    if model not in bits_per_sample or BASELINE not in bits_per_sample:
        return None
    own, other = bits_per_sample[model], bits_per_sample[BASELINE]
    name = "an adaptive linear predictor"
    values = f"{own:.3f} against {other:.3f} bits per sample"
    gain = round(other - own, 2)
    if gain > 0:
        return Verdict(True, f"{gain:.2f} bits better than {name} ({values})")
    worse = f"{-gain:.2f} bits worse" if gain else "no better"
    return Verdict(False, f"{worse} than {name} ({values}): noise")


def compared_waveforms(means: Mapping[str, ResynthesisMetrics], passes: int = 0) -> tuple[str, str]:
    """Return the names of the model's waveform and of Griffin-Lim's that a verdict compares.

    Args:
        means: As in `judge`.
        passes: As in `judge`.
    """
    comparison = _against_griffin_lim(means, passes)
    if comparison is None:
        return consistent(RESYNTHESIS, passes), GRIFFIN_LIM
    return comparison.own, comparison.other


class _Comparison(NamedTuple):
    """The verdict against one baseline, the names compared, and the gains it follows from."""

    verdict: Verdict
    own: str
    other: str
    gains: list[float]


def _against_griffin_lim(
    means: Mapping[str, ResynthesisMetrics], passes: int
) -> _Comparison | None:
    """Return the comparison with the baseline that a model compares worst with."""
    own = consistent(RESYNTHESIS, passes)
    if GRIFFIN_LIM not in means or own not in means:
        return None
    others = {GRIFFIN_LIM: GRIFFIN_LIM}
    same_passes = consistent(GRIFFIN_LIM, passes)
    if passes and same_passes in means:
        others[same_passes] = f"{GRIFFIN_LIM} with {passes_text(passes)}"
    if means[own].pesq is None and means[own].stoi is None and passes:
        if same_passes in others:
            del others[GRIFFIN_LIM]
        elif RESYNTHESIS in means:
            own = RESYNTHESIS
    found = (_compare(means, own, other, shown) for other, shown in others.items())
    return min(found, key=_rank)


def _rank(comparison: _Comparison) -> tuple[int, list[float]]:
    """Return a key that is lowest for the strongest baseline."""
    return (False, None, True).index(comparison.verdict.is_better), comparison.gains


def _compare(
    means: Mapping[str, ResynthesisMetrics], own: str, other: str, shown: str
) -> _Comparison:
    gains: list[float] = []
    signs = set()
    values = []
    for measure in HEARD:
        mine, yours = (getattr(means[name], measure.field) for name in (own, other))
        if None in (mine, yours) or (measure.field == "mel_db" and gains):
            continue
        gain = measure.sign * round(mine - yours, MAX_DECIMALS)
        gains.append(gain)
        signs.add(0 if abs(gain) <= measure.tolerance else math.copysign(1, gain))
        values.append(f"{measure.name} {_apart(mine, yours, measure.decimals)}{measure.unit}")
    against = f"{shown}, which needs no training ({', '.join(values)})"
    if {-1, 1} <= signs:
        verdict = Verdict(None, f"neither better nor worse than {against}")
    elif signs == {0}:
        verdict = Verdict(None, f"about as good as {against}")
    else:
        is_better = 1 in signs
        verdict = Verdict(is_better, f"{'better' if is_better else 'worse'} than {against}")
    return _Comparison(verdict, own, other, gains)


def _apart(mine: float, yours: float, decimals: int) -> str:
    """Return two values with as many decimals as tell them apart."""
    while round(mine, decimals) == round(yours, decimals) and decimals < MAX_DECIMALS:
        if round(mine, MAX_DECIMALS) == round(yours, MAX_DECIMALS):
            break
        decimals += 1
    return f"{mine:.{decimals}f} against {yours:.{decimals}f}"
