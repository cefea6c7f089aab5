"""What an evaluation says in one sentence: whether a model is better than a baseline.

A vocoder is compared with Griffin-Lim from the same mel, which needs no training, by what is heard:
PESQ and STOI, or the mel distance where those are not installed. Any other model is compared with
adaptive linear prediction, by bits per sample.
"""

from collections.abc import Mapping
from typing import NamedTuple

from wavenet.evaluation.baselines import GRIFFIN_LIM
from wavenet.evaluation.metrics import ResynthesisMetrics

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
    resynthesis: str,
) -> Verdict | None:
    """Return the verdict on a model; `None` if neither of its baselines was measured.

    Args:
        bits_per_sample: By name, of the model and of the baselines.
        means: Mean metrics of resynthesis by name.
        model: The model's name in the first.
        resynthesis: The name of what it generates in the second.
    """
    if GRIFFIN_LIM in means and resynthesis in means:
        return _against_griffin_lim(means[resynthesis], means[GRIFFIN_LIM])
    if model not in bits_per_sample or BASELINE not in bits_per_sample:
        return None
    own, other = bits_per_sample[model], bits_per_sample[BASELINE]
    name = "an adaptive linear predictor"
    values = f"{own:.3f} against {other:.3f} bits per sample"
    if own < other:
        return Verdict(True, f"{other - own:.2f} bits better than {name} ({values})")
    return Verdict(False, f"{own - other:.2f} bits worse than {name} ({values}): noise")


def _against_griffin_lim(own: ResynthesisMetrics, other: ResynthesisMetrics) -> Verdict:
    gains: list[float] = []
    values = []
    for name, field, sign in HEARD:
        pair = getattr(own, field), getattr(other, field)
        if None in pair or (field == "mel_db" and gains):
            continue
        gains.append(sign * (pair[0] - pair[1]))
        unit = " dB" if field == "mel_db" else ""
        values.append(f"{name} {pair[0]:.2f} against {pair[1]:.2f}{unit}")
    against = f"Griffin-Lim, which needs no training ({', '.join(values)})"
    if min(gains) > 0:
        return Verdict(True, f"better than {against}")
    if max(gains) > 0:
        return Verdict(None, f"neither better nor worse than {against}")
    return Verdict(False, f"worse than {against}")
