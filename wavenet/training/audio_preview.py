"""One held-out clip at every validation, in two ways, for TensorBoard and Weights & Biases."""

import importlib.util
from dataclasses import dataclass
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
from wavenet.training.loggers import Loggers
from wavenet.training.options import RunConfig
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState


@dataclass
class AudioPreview:
    """Writes one held-out clip to the loggers at every validation, computed twice.

    Teacher-forced, each sample is the likeliest one after the true past; generated, each is drawn
    from the model's own distribution. Both are written as audio and as a spectrogram.
    """

    clip: NDArray[np.float32]  # the start of a held-out recording, (T,)
    audio: AudioConfig  # meaning of the model's signal
    conditions: dict[str, Any]  # conditioning of the clip, a batch of one
    stop: StopFlag  # set by a signal
    loggers: Loggers | None = None  # get the audio

    def __post_init__(self) -> None:
        self.filter = build_filter(self.audio)
        self.signal = self.filter.apply(torch.from_numpy(self.clip))

    def __call__(self, state: TrainingState) -> None:
        """Write the clip at the current step.

        Raises:
            Stopped: A signal came before all was generated; nothing is written.
        """
        sounds = {
            "val/original": self.clip,
            "val/teacher_forced": self.teacher_forced(state.eval_model),
            "val/generated": self.generate(state.eval_model),
        }
        if self.loggers is not None:
            self.loggers.add_audio(sounds, state.step, self.audio.sample_rate)

    def teacher_forced(self, model: WaveNet) -> NDArray[np.float32]:
        """Return the likeliest sample after each true past, `(T,)`."""
        device = next(model.parameters()).device
        with evaluating(model):
            conditions = {name: tensor.to(device) for name, tensor in self.conditions.items()}
            params = model(self.signal.to(device)[None], **conditions)
        return self._to_waveform(model.distribution.mode(params))

    def generate(self, model: WaveNet) -> NDArray[np.float32]:
        """Return the first half of the clip and the model's continuation of it, `(T,)`."""
        half = len(self.signal) // 2
        prompt = self.signal[:half]
        # one stream is faster on a CPU than on the GPU that trains
        backend = "cpu" if importlib.util.find_spec("numba") else "auto"
        generated = make_sampler(model, backend).generate(
            len(self.signal) - half,
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
    data: TrainingData, config: RunConfig, stop: StopFlag, loggers: Loggers | None
) -> AudioPreview | None:
    """Return the preview of the longest validation clip; `None` without one or if it is off."""
    length = round(config.trainer.preview_seconds * config.audio.sample_rate)
    if not data.val or not length:
        return None
    clip = data.val[int(np.argmax(data.val.frames))]
    waveform = read_clip(config.data.folder, clip)[:length]
    conditions = clip_conditioning(config.audio, config.data.folder, clip, len(waveform))
    return AudioPreview(waveform, config.audio, conditions, stop, loggers)
