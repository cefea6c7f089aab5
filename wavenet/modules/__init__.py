"""Building blocks: they take plain numbers, not configs, and need only torch.

Blocks and weights of other projects (VITS, DiffWave, WaveGlow, Parallel WaveGAN, NNSVS) are in
`wavenet.modules.compat`, which is imported by that name.
"""

from wavenet.modules.conditioning import GlobalConditioner, LocalConditioner
from wavenet.modules.conv import CausalConv1d, CausalEmbedding, SameConv1d
from wavenet.modules.head import Head
from wavenet.modules.residual_block import ResidualBlock
from wavenet.modules.residual_stack import ResidualStack
from wavenet.modules.rows import GatedActivation

__all__ = [
    "CausalConv1d",
    "CausalEmbedding",
    "GatedActivation",
    "GlobalConditioner",
    "Head",
    "LocalConditioner",
    "ResidualBlock",
    "ResidualStack",
    "SameConv1d",
]
