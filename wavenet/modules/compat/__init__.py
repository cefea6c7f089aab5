"""Blocks of other projects by their own names and weights, on ours.

from wavenet.modules import compat

wn = compat.WN(192, 5, 1, 16, gin_channels=256)  # VITS's
compat.load_weights(wn, checkpoint["model"], prefix="enc_q.enc.")  # any form of weight norm
"""

from wavenet.modules.compat.stacks import (
    WaveGlowWN,
    diffwave_stack,
    nnsvs_stack,
    parallel_wavegan_stack,
    waveglow_wn,
    wn_stack,
)
from wavenet.modules.compat.weight_norm import convert_weight_norm, load_weights
from wavenet.modules.compat.wn import WN, WeightNormConv1d

__all__ = [
    "WN",
    "WaveGlowWN",
    "WeightNormConv1d",
    "convert_weight_norm",
    "diffwave_stack",
    "load_weights",
    "nnsvs_stack",
    "parallel_wavegan_stack",
    "waveglow_wn",
    "wn_stack",
]
