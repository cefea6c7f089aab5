"""Conditioning of a model, from excerpts or a complete signal, on the model's device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavenet.config import AudioConfig, ScoreConfig
from wavenet.features.f0 import f0_features
from wavenet.features.mel import LogMel
from wavenet.features.score import Note, piano_roll
from wavenet.utils.errors import DataError


class Features(nn.Module):
    """Computes frames and speakers as the arguments of a model's `forward`.

    Args:
        audio: Which features, and their parameters.
    """

    def __init__(self, audio: AudioConfig | None) -> None:
        super().__init__()
        self.audio = audio
        self.mel = LogMel(audio.mel) if audio is not None and audio.mel is not None else None

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the conditioning of a batch of excerpts, from `wavenet.data.dataset`."""
        conditions, parts = {}, []
        if self.mel is not None:
            parts.append(self.mel.valid(batch["around"]))
        if "frames" in batch:
            parts.append(batch["frames"])
        if parts:
            conditions["local"] = torch.cat(parts, dim=1)
        if "speaker" in batch:
            conditions["speaker"] = batch["speaker"]
        return conditions

    def from_recording(
        self,
        waveform: NDArray[np.float32] | None,
        notes: list[Note] | None = None,
        frames: Tensor | None = None,
    ) -> Tensor:
        """Return the frames of a complete recording, its score, or both, `(1, C, F)`.

        Args:
            waveform: `(T,)`, at the model's rate.
            notes: The score.
            frames: Those of a file, normalized, `(C, F)`; as many as the recording has.

        Raises:
            DataError: The recording or the score that the model needs is missing.
        """
        audio, parts = self.audio, []
        assert audio is not None
        if waveform is None and (audio.mel is not None or audio.f0 is not None):
            raise DataError(
                "the model is conditioned on features of a recording: pass input=FILE.wav"
            )
        if waveform is not None and self.mel is not None:
            device = self.mel.bank.device
            parts.append(self.mel(torch.from_numpy(waveform)[None].to(device))[0].cpu())
        if waveform is not None and audio.f0 is not None:
            parts.append(torch.from_numpy(f0_features(waveform, audio.f0)))
        if audio.score is not None:
            if notes is None:
                raise DataError(
                    "the model is conditioned on a score: pass a .csv file with one line "
                    "onset,offset,pitch per note, in seconds and MIDI numbers"
                )
            count = _count(audio.score, waveform, notes) if frames is None else frames.shape[-1]
            parts.append(torch.from_numpy(piano_roll(notes, 0, count, audio.score)))
        if audio.frames is not None:
            assert frames is not None
            parts.append(frames)
        return torch.cat(parts)[None]


def _count(config: ScoreConfig, waveform: NDArray[np.float32] | None, notes: list[Note]) -> int:
    """Return the number of frames: those of the recording, or to a second after the last note."""
    seconds = max((note.offset for note in notes), default=0.0) + 1.0
    length = round(seconds * config.sample_rate) if waveform is None else len(waveform)
    return -(-length // config.hop_length)
