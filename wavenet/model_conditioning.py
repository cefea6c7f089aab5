"""The conditioning of a model: from its inputs to one tensor per sample.

Local conditioning comes first, then global conditioning. Before both come the coefficients of the
linear predictor, in models whose mel frames give them.
"""

from __future__ import annotations  # help() shows Array by its name

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import WaveNetConfig
from wavenet.linear_predictor import LinearPredictor
from wavenet.mel_predictor import MelPredictor
from wavenet.modules import GlobalConditioner, LocalConditioner
from wavenet.utils.arrays import Array, as_optional_tensor


class Conditioned(nn.Module):
    """The part of a `WaveNet` that conditions it; its base.

    Attributes:
        config: Shape of the weights.
        global_conditioner: Of speakers and vectors; `None` for a model without any.
        local_conditioner: Of frames; `None` for a model without any.
        predictor: Linear predictor; `None` for none.
    """

    config: WaveNetConfig
    global_conditioner: GlobalConditioner | None
    local_conditioner: LocalConditioner | None
    predictor: LinearPredictor | None

    @property
    def mel_predictor(self) -> MelPredictor | None:
        """The linear predictor if its coefficients come from the frames, and so with them."""
        return self.predictor if isinstance(self.predictor, MelPredictor) else None

    def compute_conditioning(
        self,
        batch_size: int,
        length: int,
        *,
        local: Array | None = None,
        speaker: Array | None = None,
        vector: Array | None = None,
    ) -> Tensor | None:
        """Return the conditioning of each sample, `(B, C, T)`; `None` for a model without any.

        The coefficients of the mel's linear predictor come first, if there is one.

        Raises:
            ValueError: An input is missing, has another shape, or the model does not take it.
        """
        rows, conditioning = self.conditioning_parts(
            batch_size, length, local=local, speaker=speaker, vector=vector
        )
        return conditioning if rows is None else join(rows, conditioning)

    def conditioning_parts(
        self,
        batch_size: int,
        length: int,
        *,
        local: Array | None,
        speaker: Array | None,
        vector: Array | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the coefficients of the predictor and the conditioning of the stack."""
        rows, parts, local = None, [], as_optional_tensor("local", local, self)
        if self.local_conditioner is not None:
            frames = self._frames_around(local, batch_size, length)
            rows, conditioning = self.local_window(frames)
            if rows is not None and self.mel_predictor is not None:
                rows = self.mel_predictor.of_samples(rows)[..., :length]
            parts.append(conditioning[..., :length])
        elif local is not None:
            raise ValueError("the model has no local conditioning, but local was given")
        whole_signal = self.compute_global_conditioning(batch_size, speaker, vector)
        if whole_signal is not None:
            parts.append(whole_signal.unsqueeze(-1).expand(-1, -1, length))
        return rows, torch.cat(parts, dim=1) if parts else None

    def compute_global_conditioning(
        self, batch_size: int, speaker: Array | None = None, vector: Array | None = None
    ) -> Tensor | None:
        """Return the conditioning of each item's signal, `(B, C)`; `None` for a model without."""
        if self.global_conditioner is not None:
            speaker = as_optional_tensor("speaker", speaker, self)
            vector = as_optional_tensor("vector", vector, self)
            vector = None if vector is None else self.as_weights(vector)
            conditioning: Tensor = self.global_conditioner(speaker, vector, batch_size)
            return conditioning
        if speaker is not None or vector is not None:
            raise ValueError("the model has no global conditioning: leave speaker and vector out")
        return None

    def _frames_around(self, local: Tensor | None, batch_size: int, length: int) -> Tensor:
        """Return checked frames with copies of the first and the last one around them."""
        assert self.local_conditioner is not None
        assert self.config.local is not None
        channels, hop = self.config.local.in_channels, self.local_conditioner.hop_length
        if local is None:
            raise ValueError(f"the model needs local=, frames of {channels} channels")
        if local.dim() != 3 or tuple(local.shape[:2]) != (batch_size, channels):
            wanted = f"({batch_size}, {channels}, F)"
            raise ValueError(f"local must be {wanted}, got {tuple(local.shape)}")
        if local.shape[2] * hop < length:
            raise ValueError(
                f"local has {local.shape[2]} frames of {hop} samples, the waveform {length} samples"
            )
        around = (self.local_conditioner.past, self.frame_lookahead)
        return F.pad(self.as_weights(local), around, mode="replicate")

    @property
    def frame_lookahead(self) -> int:
        """Frames after its own that the conditioning of a sample depends on, at most."""
        parts = (self.local_conditioner, self.mel_predictor)
        return max((part.lookahead for part in parts if part is not None), default=0)

    def local_window(self, frames: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the local conditioning of the samples of some frames, given those around them.

        Shape:
            - Input: `(B, in_channels, past + F + frame_lookahead)`, with the `past` of the local
              conditioner
            - Output: coefficients of the linear predictor, `(B, F * subframes, order + 1)`, if
              there is one, and conditioning of the stack, `(B, C, F * hop_length)`
        """
        local, predictor = self.local_conditioner, self.mel_predictor
        assert local is not None
        stop = frames.shape[-1] - self.frame_lookahead
        conditioning: Tensor = local.window(frames[..., : stop + local.lookahead])
        if predictor is None:
            return None, conditioning
        own_frames = frames[..., local.past : stop + predictor.lookahead]
        return predictor.of_subframes(own_frames), conditioning

    def split(self, conditioning: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the coefficients of the mel's predictor, and the conditioning of the stack."""
        if self.mel_predictor is None or conditioning is None:
            return None, conditioning
        count = self.mel_predictor.num_rows
        return conditioning[:, :count].float(), self.as_weights(conditioning[:, count:])

    def as_weights(self, x: Tensor) -> Tensor:
        """Return an input in the dtype of the weights."""
        weight = next(self.parameters(), None)  # None where something else has replaced them
        return x if weight is None else x.to(weight.dtype)


def join(rows: Tensor, conditioning: Tensor | None) -> Tensor:
    """Return coefficients of samples and their conditioning in one tensor, `(B, C, T)`."""
    if conditioning is None:
        return rows
    by_sample = [part.transpose(1, 2) for part in (rows, conditioning)]  # as the rows are stored
    return torch.cat(by_sample, dim=2).transpose(1, 2)
