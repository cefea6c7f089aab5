"""Building blocks: they take plain numbers, not configs, and need only torch."""

from wavenet.modules.conditioning import GlobalConditioner, LocalConditioner
from wavenet.modules.conv import CausalConv1d, SameConv1d
from wavenet.modules.embedding import CausalEmbedding
from wavenet.modules.gated_activation import GatedActivation
from wavenet.modules.head import Head
from wavenet.modules.residual import ResidualBlock, ResidualStack

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
