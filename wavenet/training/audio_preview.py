"""What a model in training sounds like: one held-out clip, twice, at every validation.

Teacher-forced, each sample is the likeliest one after the true past; generated freely, each is
drawn after the model's own. Both go to TensorBoard as audio and as a spectrogram.
"""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.evaluation.nll import evaluating
from wavenet.features.filters import shaping_of
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.training.module import TrainingModule
from wavenet.training.signals import StopFlag
from wavenet.training.tensorboard import TensorBoard


class Preview:
    """Plays one held-out clip through the model.

    Args:
        clip: The start of a held-out recording, `(T,)` float32.
        audio: Meaning of the model's signal.
        conditions: Of the clip, a batch of one.
        stop: Set by a signal.
    """

    def __init__(
        self,
        clip: NDArray[np.float32],
        audio: AudioConfig,
        conditions: dict[str, Any],
        stop: StopFlag,
    ) -> None:
        self.stop = stop
        self.shaping = shaping_of(audio)
        self.original = clip
        self.clip = self.shaping.apply(torch.from_numpy(clip))
        self.conditions = conditions
        self.sample_rate = audio.sample_rate

    def __call__(self, trainer: pl.Trainer, module: TrainingModule, step: int) -> None:
        """Log the clip at `step`.

        Raises:
            Stopped: A signal came before all was generated; nothing is logged.
        """
        model = module.exported
        sounds = {
            "held_out/original": self.original,
            "held_out/teacher_forced": self.teacher_forced(model),
            "held_out/generated": self.generated(model),
        }
        if isinstance(trainer.logger, TensorBoard):
            trainer.logger.log_sounds(sounds, step, self.sample_rate)

    def teacher_forced(self, model: WaveNet) -> NDArray[np.float32]:
        """Return the likeliest sample after each true past, `(T,)`."""
        device = next(model.parameters()).device
        with evaluating(model):
            conditions = {name: tensor.to(device) for name, tensor in self.conditions.items()}
            params = model(self.clip.to(device)[None], **conditions)
        return self._undone(model.distribution.mode(params))

    def generated(self, model: WaveNet) -> NDArray[np.float32]:
        """Return what the model goes on with after the first half of the clip, both, `(T,)`."""
        half = len(self.clip) // 2
        prompt = self.clip[:half]
        sampler, rest = make_sampler(model), len(self.clip) - half
        told = {"prompt": prompt, **self.conditions}
        drawn = sampler.generate(rest, progress=self.stop.look, **told)[0].cpu()
        return self._undone(torch.cat([prompt, drawn])[None])

    def _undone(self, signal: Tensor) -> NDArray[np.float32]:
        """Return the recording that a signal, `(1, T)`, stands for."""
        sound: NDArray[np.float32] = self.shaping.undone()(signal.cpu().float())[0].numpy()
        return sound
