"""What an evaluation says in one sentence: whether a model is better than a baseline.

A vocoder is compared with Griffin-Lim from the same mel, which needs no training, by what is heard:
PESQ and STOI, or the mel distance where those are not installed. Passes of mel consistency set the
mel distance, so only as many passes on both sides compare it; PESQ and STOI are compared with the
stronger of Griffin-Lim and Griffin-Lim with those passes. Any other model is compared with adaptive
linear prediction, by bits per sample. Figures that are equal as they are shown make nothing better.
"""

from collections.abc import Mapping
from typing import NamedTuple

from wavenet.evaluation.baselines import GRIFFIN_LIM
from wavenet.evaluation.metrics import ResynthesisMetrics
from wavenet.evaluation.synthesis import RESYNTHESIS, consistent, passes_text

BASELINE = "adaptive_linear_prediction"
HEARD = (("PESQ", "pesq", 1), ("STOI", "stoi", 1), ("mel distance", "mel_db", -1))  # what is better


class Verdict(NamedTuple):
    """Whether a model is better than its baseline, `None` if measures disagree, and a sentence."""

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
    if GRIFFIN_LIM in means and consistent(RESYNTHESIS, passes) in means:
        return _against_griffin_lim(means, passes)
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


def _against_griffin_lim(means: Mapping[str, ResynthesisMetrics], passes: int) -> Verdict:
    """Return the verdict against the baseline that a model compares worst with."""
    own = means[consistent(RESYNTHESIS, passes)]
    baselines = {GRIFFIN_LIM: means[GRIFFIN_LIM]}
    same_passes = means.get(consistent(GRIFFIN_LIM, passes)) if passes else None
    if same_passes is not None:
        baselines[f"{GRIFFIN_LIM} with {passes_text(passes)}"] = same_passes
    if own.pesq is None and own.stoi is None and passes:
        if same_passes is not None:
            del baselines[GRIFFIN_LIM]
        else:
            own = means.get(RESYNTHESIS, own)
    return min((_compare(own, other, name) for name, other in baselines.items()), key=_rank).verdict


class _Comparison(NamedTuple):
    """The verdict against one baseline, and the gains that it follows from."""

    verdict: Verdict
    gains: list[float]


def _rank(comparison: _Comparison) -> tuple[int, list[float]]:
    """Return a key that is lowest for the strongest baseline."""
    return (False, None, True).index(comparison.verdict.is_better), comparison.gains


def _compare(own: ResynthesisMetrics, other: ResynthesisMetrics, name: str) -> _Comparison:
    gains: list[float] = []
    values = []
    for measure, field, sign in HEARD:
        pair = getattr(own, field), getattr(other, field)
        if None in pair or (field == "mel_db" and gains):
            continue
        mine, yours = (round(value, 2) for value in pair)  # as shown
        gains.append(sign * (mine - yours))
        unit = " dB" if field == "mel_db" else ""
        values.append(f"{measure} {mine:.2f} against {yours:.2f}{unit}")
    against = f"{name}, which needs no training ({', '.join(values)})"
    if min(gains) < 0 < max(gains):
        return _Comparison(Verdict(None, f"neither better nor worse than {against}"), gains)
    word = "better" if max(gains) > 0 else "worse" if min(gains) < 0 else "no better"
    return _Comparison(Verdict(word == "better", f"{word} than {against}"), gains)
