"""What TensorBoard shows of a training: curves, and audio of one held-out clip.

TensorBoard can never stop training: if it cannot write (a full disk, a read-only folder), one
warning says so, and the run continues without it.
"""

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.data.dataset import read_clip
from wavenet.evaluation.nll import evaluating
from wavenet.evaluation.plots import spectrogram_image
from wavenet.evaluation.synthesis import clip_conditioning
from wavenet.features.filters import build_filter
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.training.data import TrainingData
from wavenet.training.loader import is_worker_error
from wavenet.training.options import RunConfig
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState
from wavenet.utils.errors import printable

log = logging.getLogger("wavenet")


class TensorBoard:
    """Writes to the folder `tensorboard` of a run, from the first event on.

    Args:
        run: The run's folder.
        step: Updates so far: what an earlier process wrote past them is dropped.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.folder = run / "tensorboard"
        self.purge_step = step + 1 if step else None
        self.failed = False
        self.lock = threading.Lock()  # TensorBoard's thread and ours may fail at the same moment
        self._writer: Any = None
        self._thread_hook: Any = None  # `threading.excepthook` of before, while ours replaces it

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""

        def add() -> None:
            for name, value in scalars.items():
                self._open().add_scalar(name, value, step)

        self._attempt(add)

    def add_audio(self, sounds: Mapping[str, NDArray[np.float32]], step: int, rate: int) -> None:
        """Add waveforms by name, `(T,)` at `rate` Hz, each as audio and as a spectrogram."""

        def add() -> None:
            for name, sound in sounds.items():
                image = spectrogram_image(sound, rate)
                self._open().add_audio(name, sound[None], step, rate)
                self._open().add_image(name, image, step, dataformats="HWC")

        self._attempt(add)

    def close(self) -> None:
        """Write what is buffered, and close."""
        if self._writer is not None:
            self._attempt(lambda: self._writer.close())
        with self.lock:  # a failure in TensorBoard's thread is logged before
            pass
        if self._thread_hook is not None:
            threading.excepthook, self._thread_hook = self._thread_hook, None

    def _open(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._thread_hook, threading.excepthook = threading.excepthook, self._thread_failed
            self._writer = SummaryWriter(str(self.folder), purge_step=self.purge_step)
        return self._writer

    def _attempt(self, write: Callable[[], None]) -> None:
        """Call `write`, unless TensorBoard has failed before."""
        if self.failed:
            return
        try:
            write()
        except Exception as error:
            if is_worker_error(error):
                raise
            self._give_up(error.__cause__ or error)

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        """Handle an error of TensorBoard's own thread without a traceback."""
        if type(args.thread).__module__.startswith("tensorboard"):
            self._give_up(args.exc_value)
        else:
            self._thread_hook(args)

    def _give_up(self, error: BaseException | None) -> None:
        with self.lock:  # until it is logged: the process may end as soon as the failure is noticed
            if not self.failed:
                log.warning(
                    "warning: TensorBoard cannot write to %s: %s. Training continues without its "
                    "curves.",
                    *(printable(self.folder), printable(error)),
                )
            self.failed = True


@dataclass
class AudioPreview:
    """Writes one held-out clip to TensorBoard at every validation, computed twice.

    Teacher-forced, each sample is the likeliest one after the true past; generated, each is drawn
    from the model's own distribution. Both are written as audio and as a spectrogram.
    """

    clip: NDArray[np.float32]  # the start of a held-out recording, (T,)
    audio: AudioConfig  # meaning of the model's signal
    conditions: dict[str, Any]  # conditioning of the clip, a batch of one
    stop: StopFlag  # set by a signal
    tensorboard: TensorBoard | None = None  # gets the audio

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
        if self.tensorboard is not None:
            self.tensorboard.add_audio(sounds, state.step, self.audio.sample_rate)

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
    data: TrainingData, config: RunConfig, stop: StopFlag, tensorboard: TensorBoard | None
) -> AudioPreview | None:
    """Return the preview of the longest validation clip; `None` without one or if it is off."""
    length = round(config.trainer.preview_seconds * config.audio.sample_rate)
    if not data.val or not length:
        return None
    clip = data.val[int(np.argmax(data.val.frames))]
    waveform = read_clip(config.data.folder, clip)[:length]
    conditions = clip_conditioning(config.audio, config.data.folder, clip, len(waveform))
    return AudioPreview(waveform, config.audio, conditions, stop, tensorboard)
