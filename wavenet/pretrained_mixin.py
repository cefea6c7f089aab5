"""`from_pretrained` and `save_pretrained`, as Hugging Face's libraries name loading and saving.

The only imports that point up, against the layers: these methods are aliases of what stands above
the model.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from wavenet.config import AudioConfig

if TYPE_CHECKING:
    from wavenet.model import WaveNet
    from wavenet.model_card import TrainingInfo


class PretrainedMixin:
    """Aliases of `wavenet.load` and `wavenet.save` as methods of a model."""

    @staticmethod
    def from_pretrained(name: Path | str, device: torch.device | str = "cpu") -> "WaveNet":
        """Return the model of `wavenet.load(name, device)`, without the meaning of its audio."""
        from wavenet.pretrained import load

        return load(name, device).model

    def save_pretrained(
        self, path: Path | str, audio: AudioConfig, training: "TrainingInfo | None" = None
    ) -> None:
        """Write a model directory: `wavenet.save(self, path, audio, training)`."""
        from wavenet.checkpoint import save

        assert isinstance(self, nn.Module)
        save(self, path, audio, training)
