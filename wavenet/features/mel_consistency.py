"""Mel consistency: gives a generated signal the mel spectrogram that it was generated from.

A vocoder is given a mel spectrogram, but what it draws has another one. One pass multiplies the
STFT of the signal by the ratio of the stated mel to the signal's own, interpolated from bands to
bins, keeps the phases, and overlap-adds the frames back (weighted by the window twice and divided
by the sum of its squares, as Griffin and Lim 1984). The frames overlap, so their changes disturb
each other, and each further pass comes closer. There is nothing to train.

What is added back is an average of neighbours, so a change arrives whole where they agree, and
less where they do not. Hence all passes but the last apply the ratio twice (over-relaxation by 2):
a share `s` of a change that arrives, 0 to 1, leaves `1 - 2s` of an error in place of `1 - s`, which
never is more than there was; the last pass removes what was only turned over. Three passes bring
what four or five would.

Each frame is computed alone in float64, so the result does not depend on the length of the pieces
that a signal comes in.
"""

from __future__ import annotations  # help() shows Array by its name

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import MelConfig
from wavenet.mel_filterbank import mel_filterbank
from wavenet.utils.arrays import Array, as_tensor

Doubles = NDArray[np.float64]

MAX_GAIN_DB = 40.0  # of one pass, up or down
RELAXATION = 2.0  # exponent of the ratio in all passes but the last
NO_BIN = 1e-4  # of the greatest sum of a band's weights: narrow bands may lie between two bins


def can_overlap_add(config: MelConfig) -> bool:
    """Return whether the windows overlap by half or more, as overlap-adding them back needs."""
    return 2 * config.hop_length <= config.win_length


@dataclass
class _PassState:
    """One signal within one pass.

    Attributes:
        signal: Samples from the start of the next frame on.
        sums: Of the frames so far, `(2, win_length)`: the windowed results, and the squared
            windows; from the start of the next frame on.
        gain: Of the last frame, `(bins,)`.
        frame: The next frame.
        padded: Whether `signal` has the padding before the first sample.
    """

    signal: Doubles
    sums: Doubles
    gain: Doubles
    frame: int = 0
    padded: bool = False


@dataclass
class MelConsistencyState:
    """Where the signals of a batch are.

    Attributes:
        mel: Frames so far, `(B, n_mels, F)`.
        length: Samples so far.
        prompt_left: Samples of the prompt that are still within the passes.
        passes: Of each signal, first pass first.
        ended: Whether `flush` was called.
    """

    mel: Doubles
    passes: list[list[_PassState]]
    length: int = 0
    prompt_left: int = 0
    ended: bool = False


class MelConsistency:
    """Brings the mel spectrogram of a signal closer to a stated one.

    The signal is a recording, after `InverseFilter` where the model has filters: mel spectrograms
    are those of unfiltered recordings. Call it with complete signals, or keep a state of a stream:

        consistency = MelConsistency(audio.mel)
        state = consistency.new_state(mel)
        for piece in sampler.stream(local=mel):
            play(consistency.push(piece, state))
        play(consistency.flush(state))

    Args:
        config: Convention of the mel spectrogram.
        passes: Times that frames are changed and overlap-added, 1 or more.

    Raises:
        ValueError: `passes` is less than 1, or the windows overlap by less than half.
    """

    def __init__(self, config: MelConfig, passes: int = 3) -> None:
        if operator.index(passes) < 1:
            raise ValueError(f"passes must be 1 or more, got {passes}")
        if not can_overlap_add(config):
            raise ValueError(
                f"hop_length must be {config.win_length // 2} or less, half of win_length, "
                f"got {config.hop_length}"
            )
        self.config = config
        self.passes = passes
        window = torch.hann_window(config.win_length, dtype=torch.float64).numpy()
        self._window: Doubles = window
        self._before = config.n_fft // 2 - (config.n_fft - config.win_length) // 2
        bank = mel_filterbank(config).numpy()
        self._bands, self._bins = np.nonzero(bank)
        self._weights = bank[self._bands, self._bins]
        self._mean, self._std = (
            np.broadcast_to(np.array(values), config.n_mels) for values in (config.mean, config.std)
        )
        units = {"natural": 1.0, "log10": math.log(10), "decibel": math.log(10) * config.power / 20}
        self._nats = units[config.log_base]  # per unit of the logarithm
        self._squared_window: Doubles = np.square(window)
        self._lower, self._upper, self._share = _between_bands(config, bank)

    @property
    def latency(self) -> int:
        """Samples that `push` holds back at most; it has returned all older ones."""
        hop, size = self.config.hop_length, self.config.win_length
        return size - 1 + (self.passes - 1) * (-(-size // hop) - 1) * hop

    def __call__(self, waveform: Array, mel: Array) -> Tensor:
        """Return complete signals whose mel spectrograms are closer to `mel`, `(B, T)`.

        Args:
            waveform: `(B, T)`, float32 or float64; or `(T,)`.
            mel: `(B, n_mels, F)` in the convention of `config`; `(n_mels, F)` for all signals.
        """
        waveform = as_tensor("waveform", waveform, self)
        if waveform.dim() not in (1, 2):
            raise ValueError(f"waveform must be (B, T) or (T,), got {tuple(waveform.shape)}")
        signals = waveform if waveform.dim() == 2 else waveform.unsqueeze(0)
        state = self.new_state(mel, len(signals))
        pieces = self.push(signals, state), self.flush(state).to(waveform)
        return torch.cat(pieces, dim=1).view(waveform.shape)

    def new_state(
        self, mel: Array, batch_size: int = 1, prompt: Array | None = None
    ) -> MelConsistencyState:
        """Return the state before the first sample.

        Args:
            mel: Frames, `(B, n_mels, F)`; `(n_mels, F)` for all signals. The last one is repeated
                where a signal is longer.
            batch_size: Signals, `B`.
            prompt: Samples that the signals continue, `(B, T)`; they are not returned. `mel` begins
                with the frames of the prompt.

        Raises:
            ValueError: `mel` has another shape, NaN or infinity.
        """
        config, frames = self.config, as_tensor("mel", mel, self).detach().cpu().double()
        frames = frames.expand(batch_size, -1, -1) if frames.dim() == 2 else frames
        count = frames.shape[-1] if frames.dim() else 0
        if frames.shape != (batch_size, config.n_mels, count) or not count:
            raise ValueError(
                f"mel must be ({batch_size}, {config.n_mels}, F) or ({config.n_mels}, F) with at "
                f"least one frame, got {tuple(mel.shape)}"
            )
        if not bool(frames.isfinite().all()):
            raise ValueError("mel must be finite, got NaN or infinity")
        passes = [[self._new_pass() for _ in range(self.passes)] for _ in range(batch_size)]
        state = MelConsistencyState(frames.numpy(), passes)
        if prompt is not None:
            state.prompt_left = prompt.shape[1]
            self.push(prompt, state)
        return state

    def push(self, waveform: Array, state: MelConsistencyState) -> Tensor:
        """Return the samples that are complete, `(B, N)`, and advance the state.

        Args:
            waveform: The next samples of each signal, `(B, T)`, float32 or float64.
            state: From `new_state`, changed in place.

        Raises:
            ValueError: The state is at its end, or the samples are not finite.
        """
        waveform = as_tensor("waveform", waveform, self)
        if state.ended:
            raise ValueError("the state is at its end: start another with new_state")
        if waveform.dim() != 2 or len(waveform) != len(state.passes):
            raise ValueError(
                f"waveform must be ({len(state.passes)}, T), got {tuple(waveform.shape)}"
            )
        if not bool(waveform.isfinite().all()):
            raise ValueError("waveform must be finite, got NaN or infinity")
        state.length += waveform.shape[1]
        rows = zip(waveform.detach().cpu().double().numpy(), state.mel, state.passes, strict=True)
        return _returned([self._all_passes(*row) for row in rows], state).to(waveform)

    def flush(self, state: MelConsistencyState) -> Tensor:
        """Return the rest of the signals, `(B, N)` in float64; the state is at its end."""
        if state.ended:
            raise ValueError("the state is at its end: start another with new_state")
        state.ended = True
        rows = zip(state.mel, state.passes, strict=True)
        ends = [self._all_passes(np.zeros(0), *row, state.length) for row in rows]
        return _returned(ends, state)

    def _new_pass(self) -> _PassState:
        size, bins = self.config.win_length, self.config.n_fft // 2 + 1
        return _PassState(np.zeros(0), np.zeros((2, size)), np.ones(bins))

    def _all_passes(
        self, samples: Doubles, mel: Doubles, passes: list[_PassState], length: int | None = None
    ) -> Doubles:
        """Return the samples that leave the last pass; `length` ends the signal."""
        for left, state in zip(range(len(passes))[::-1], passes, strict=True):
            state.signal = np.concatenate([state.signal, samples])
            self._pad(state, mel.shape[1], length)
            samples = self._one_pass(state, mel, length, RELAXATION if left else 1.0)
        return samples

    def _pad(self, state: _PassState, num_frames: int, length: int | None) -> None:
        """Pad the first sample when enough is known, and the last one."""
        before, hop, size = self._before, self.config.hop_length, self.config.win_length
        reflect = self.config.pad_mode == "reflect"
        if not state.padded and (length is not None or len(state.signal) > before):
            start = np.zeros(before)
            if reflect and len(state.signal) > before:
                start = state.signal[before:0:-1]
            state.signal, state.padded = np.concatenate([start, state.signal]), True
        if length is not None:
            frames = -(-length // hop)
            missing = (frames - state.frame) * hop + size - len(state.signal)
            # a mel that goes on says nothing about silence after the last sample
            reflect = (reflect or num_frames > frames) and length > before
            mirrored = state.signal[-2 : -size + before - 2 : -1] if reflect else np.zeros(0)
            end = np.concatenate([mirrored, np.zeros(size)])[:missing]
            state.signal = np.concatenate([state.signal, end])

    def _one_pass(
        self, state: _PassState, mel: Doubles, length: int | None, exponent: float
    ) -> Doubles:
        hop, size, n_fft = self.config.hop_length, self.config.win_length, self.config.n_fft
        position = state.frame * hop - self._before  # negative within the padding
        complete = [np.zeros((2, 0))]
        while state.padded and len(state.signal) >= size:
            spectrum = np.fft.rfft(state.signal[:size] * self._window, n_fft)
            if length is None or state.frame * hop < length:  # else one frame after the mel's last
                target = mel[:, min(state.frame, mel.shape[1] - 1)]
                state.gain = self._gain(spectrum, target, exponent)
            changed = np.fft.irfft(spectrum * state.gain, n_fft)[:size]
            state.sums += changed * self._window, self._squared_window
            complete.append(state.sums[:, :hop])
            state.sums = np.concatenate([state.sums[:, hop:], np.zeros((2, hop))], axis=1)
            state.signal = state.signal[hop:]
            state.frame += 1
        if length is not None:
            complete.append(state.sums)
        sums = np.concatenate(complete, axis=1)[:, max(0, -position) :]
        if length is not None:
            sums = sums[:, : length - max(0, position)]
        samples: Doubles = sums[0] / sums[1]
        return samples

    def _gain(self, spectrum: NDArray[np.complex128], target: Doubles, exponent: float) -> Doubles:
        """Return the factor of each bin, `(bins,)`, given a frame of the mel, `(n_mels,)`."""
        config = self.config
        energy = np.square(spectrum.real) + np.square(spectrum.imag)
        value = (energy if config.power == 2 else np.sqrt(energy))[self._bins] * self._weights
        bands = np.bincount(self._bands, value, config.n_mels)
        own = np.log(np.maximum(bands, config.log_floor)) / self._nats
        own = (own - self._mean) / self._std
        if config.clamp:
            own = own.clip(0, 1)
        ratio = exponent * (target - own) * self._std * (self._nats / config.power)
        nats = np.append(ratio, 0.0)
        lower = nats[self._lower]
        limit = MAX_GAIN_DB * math.log(10) / 20
        gain: Doubles = np.exp(
            (lower + self._share * (nats[self._upper] - lower)).clip(-limit, limit)
        )
        return gain


def _between_bands(
    config: MelConfig, bank: Doubles
) -> tuple[NDArray[np.intp], NDArray[np.intp], Doubles]:
    """Return the bands below and above each bin, and the weight of the upper one, `(bins,)` each.

    Band `n_mels` is that of a gain of 1, at `f_min` and `f_max`: beyond these frequencies the mel
    says nothing, and the gain of the nearest band would make them louder from pass to pass. Bands
    without a bin are left out.
    """
    weights, bins = bank.sum(axis=1), np.arange(bank.shape[1])
    (bands,) = np.nonzero(weights > NO_BIN * weights.max())
    centers = (bank[bands] * bins).sum(axis=1) / weights[bands]  # no BLAS, whose threads round
    nyquist, unchanged = config.sample_rate / 2, [config.n_mels]
    ends = np.array([config.f_min, config.f_max]) / nyquist * bins[-1]
    if config.f_min > 0:
        bands, centers = np.append(unchanged, bands), np.append(ends[0], centers)
    if config.f_max < nyquist:
        bands, centers = np.append(bands, unchanged), np.append(centers, ends[1])
    below = (np.searchsorted(centers, bins, side="right") - 1).clip(0)
    above = np.searchsorted(centers, bins).clip(0, len(bands) - 1)
    distance = centers[above] - centers[below]
    distance[distance == 0] = 1  # at a center, or beyond the outer ones
    return bands[below], bands[above], (bins - centers[below]) / distance


def _returned(rows: Sequence[Doubles], state: MelConsistencyState) -> Tensor:
    """Return the samples after the prompt, `(B, N)`, limited to [-1, 1]."""
    signals = torch.from_numpy(np.stack(rows)).clamp(-1, 1)
    prompt = min(state.prompt_left, signals.shape[1])
    state.prompt_left -= prompt
    return signals[:, prompt:]
