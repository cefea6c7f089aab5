"""Audio of a model in training: at every validation, one held-out clip, computed twice.

Teacher-forced, each sample is the likeliest one after the true past; generated, each is drawn from
the model's own distribution. Both go to TensorBoard as audio and as a spectrogram.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.data.dataset import read_clip
from wavenet.evaluation.nll import evaluating
from wavenet.evaluation.synthesis import clip_conditioning
from wavenet.features.filters import build_filter
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.training.data import TrainingData
from wavenet.training.options import RunConfig
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState
from wavenet.training.tensorboard import TensorBoard


class AudioPreview:
    """Writes one held-out clip to TensorBoard as the model continues and predicts it.

    Args:
        clip: The start of a held-out recording, `(T,)` float32.
        audio: Meaning of the model's signal.
        conditions: Conditioning of the clip, a batch of one.
        stop: Set by a signal.
        tensorboard: Gets the audio.
    """

    def __init__(
        self,
        clip: NDArray[np.float32],
        audio: AudioConfig,
        conditions: dict[str, Any],
        stop: StopFlag,
        tensorboard: TensorBoard | None = None,
    ) -> None:
        self.stop = stop
        self.filter = build_filter(audio)
        self.original = clip
        self.clip = self.filter.apply(torch.from_numpy(clip))
        self.conditions = conditions
        self.sample_rate = audio.sample_rate
        self.tensorboard = tensorboard

    def __call__(self, state: TrainingState) -> None:
        """Write the clip at the current step.

        Raises:
            Stopped: A signal came before all was generated; nothing is written.
        """
        sounds = {
            "val/original": self.original,
            "val/teacher_forced": self.teacher_forced(state.eval_model),
            "val/generated": self.generate(state.eval_model),
        }
        if self.tensorboard is not None:
            self.tensorboard.add_audio(sounds, state.step, self.sample_rate)

    def teacher_forced(self, model: WaveNet) -> NDArray[np.float32]:
        """Return the likeliest sample after each true past, `(T,)`."""
        device = next(model.parameters()).device
        with evaluating(model):
            conditions = {name: tensor.to(device) for name, tensor in self.conditions.items()}
            params = model(self.clip.to(device)[None], **conditions)
        return self._to_waveform(model.distribution.mode(params))

    def generate(self, model: WaveNet) -> NDArray[np.float32]:
        """Return the first half of the clip and the model's continuation of it, `(T,)`."""
        half = len(self.clip) // 2
        prompt = self.clip[:half]
        generated = make_sampler(model).generate(
            len(self.clip) - half,
            prompt=prompt,
            progress=self.stop.raise_if_stopped,
            **self.conditions,
        )
        return self._to_waveform(torch.cat([prompt, generated[0].cpu()])[None])

    def _to_waveform(self, signal: Tensor) -> NDArray[np.float32]:
        """Return the recording that a filtered signal, `(1, T)`, stands for."""
        waveform: NDArray[np.float32] = self.filter.inverse()(signal.cpu().float())[0].numpy()
        return waveform


def build_preview(
    data: TrainingData, config: RunConfig, stop: StopFlag, tensorboard: TensorBoard | None
) -> AudioPreview | None:
    """Return the preview of the longest validation clip; `None` without one or if it is off."""
    length = round(config.trainer.preview_seconds * config.audio.sample_rate)
    clip = data.longest_val_clip
    if clip is None or not length:
        return None
    waveform = read_clip(config.data.folder, clip)[:length]
    conditions = clip_conditioning(config.audio, config.data.folder, clip, len(waveform))
    return AudioPreview(waveform, config.audio, conditions, stop, tensorboard)
