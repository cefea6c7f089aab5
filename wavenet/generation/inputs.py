"""Inputs of `wavenet-generate`: recordings, prompts, mels, scores, frames; folders of them.

The output file and the seed of an input of a folder follow from its name alone. So jobs that share
a folder need not communicate, and a killed job can simply be started again.
"""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.data.audio import MAX_OVERSHOOT, read_header, read_samples
from wavenet.data.container_headers import OPEN_END, has_open_end
from wavenet.data.preparation.sources import CONTAINERS, Source, list_files
from wavenet.data.resampling import resampled
from wavenet.features.filters import build_filter
from wavenet.features.frame_file import (
    ARRAYS,
    find_frame_file,
    frames_covering,
    normalized,
    read_frame_file,
)
from wavenet.features.frames import Features
from wavenet.features.mel import check_scale, read_mel
from wavenet.features.score import read_notes
from wavenet.model_directory import SHIPPED
from wavenet.pretrained import find_model
from wavenet.utils.errors import ConfigError, DataError, printable

RECORDINGS = tuple(f".{suffix}" for suffix in CONTAINERS)
SCORES = (".csv",)
EXAMPLE = "example.*"  # in the folder of a shipped model
log = logging.getLogger("wavenet")


@dataclass(frozen=True)
class Prompt:
    """A recording to continue.

    Attributes:
        recording: Its samples, `(T,)`.
        filtered: The same after the filter of the model's audio config, `(T,)`.
    """

    recording: Tensor
    filtered: Tensor


def example_input(checkpoint: str) -> str | None:
    """Return the input that comes with a shipped model, its example; `None` for another model."""
    folder = find_model(checkpoint, weights=False)
    found = sorted(folder.glob(EXAMPLE)) if folder.parent == SHIPPED else []
    if not found:
        return None
    log.info("no input: the example of %s, %s", printable(checkpoint), found[0].name)
    return str(found[0])


def read_inputs(
    input_path: Path | str | None,
    prompt_path: Path | str | None,
    audio: AudioConfig,
    mel_preset: str | None,
) -> tuple[Prompt | None, Tensor | None, int | None]:
    """Return prompt, frames `(1, C, F)`, and how many samples the frames cover after the prompt.

    Args:
        input_path: Recording, mel spectrogram, score or frames that the model is conditioned on.
        prompt_path: Recording to continue.
        audio: Features of the model.
        mel_preset: How a `.npy` mel spectrogram was made.

    Raises:
        DataError: A file cannot be read, holds something else, or has no frames.
    """
    prompt = None
    if prompt_path is not None:
        recording = read_recording(Path(prompt_path), audio.sample_rate)
        prompt = Prompt(recording, _filtered(recording, audio, Path(prompt_path)))
    if input_path is None:
        return prompt, None, None
    path = Path(input_path)
    suffix = path.suffix.lower()
    frames, available = read_frames(path, audio, mel_preset if suffix == ARRAYS[0] else None)
    if available < 1:
        raise DataError(f"{printable(path)} has no frames, so there is nothing to generate")
    return prompt, frames, available - (0 if prompt is None else len(prompt.recording))


def read_frames(path: Path, audio: AudioConfig, mel_preset: str | None) -> tuple[Tensor, int]:
    """Return frames, `(1, C, F)`, and the number of samples that they cover.

    Args:
        path: A recording, mel spectrogram, score or file of frames; a score or frames next to a
            recording of the same name belong to it.
        audio: Features of the model.
        mel_preset: How a `.npy` mel spectrogram was made.
    """
    suffix, names = path.suffix.lower(), [*audio.features]
    if audio.frames is not None and names == ["frames"]:
        if suffix not in ARRAYS:
            what = printable(audio.frames.description) or "frames of its own kind"
            raise ConfigError(
                f"the model is conditioned on {what}, which {printable(path)} does not hold: use "
                f"input=FILE.npy or .safetensors, an array {audio.frames.shape}"
            )
        own = normalized(read_frame_file(path, audio.frames), audio.frames)
        return _with_length(torch.from_numpy(own)[None], audio)
    if suffix in ARRAYS:
        if audio.mel is None or names != ["mel"]:
            beside = ", with its frames beside it" * ("frames" in names)
            raise ConfigError(
                f"the model is conditioned on {' and '.join(names)}, not on a mel alone: use a "
                f"recording{beside}"
            )
        mel = read_mel(path, audio.mel, mel_preset)
        check_scale(mel, audio.mel, printable(path))
        return _with_length(mel[None], audio)
    notes = read_notes(path) if suffix in SCORES else None
    waveform = None if notes else read_recording(path, audio.sample_rate).numpy()
    score = path.with_suffix(".csv")
    if notes is None and audio.score is not None and score.exists():
        notes = read_notes(score)
    frames = None
    if audio.frames is not None:
        file = find_frame_file(path)
        found = read_frame_file(file, audio.frames)
        if waveform is not None:
            found = frames_covering(found, len(waveform), audio.frames, printable(file))
        frames = torch.from_numpy(normalized(found, audio.frames))
    result = Features(audio).from_recording(waveform, notes, frames)
    return _with_length(result, audio, None if waveform is None else len(waveform))


def _filtered(recording: Tensor, audio: AudioConfig, path: Path) -> Tensor:
    """Return a recording after the model's filter, limited to [-1, 1]; a line says so."""
    signal = build_filter(audio).apply(recording)
    past_one = int((signal.abs() > 1).sum())
    if past_one:
        log.info(
            "%s: the model's filter (audio.filter) brings %d samples past 1.0: limited",
            *(printable(path), past_one),
        )
    return signal.clamp(-1, 1)


def _with_length(
    frames: Tensor, audio: AudioConfig, recorded: int | None = None
) -> tuple[Tensor, int]:
    """Return frames and the samples that they cover, at most `recorded`, those of the recording."""
    covered = frames.shape[-1] * (audio.hop_length or 1)
    return frames, covered if recorded is None else min(covered, recorded)


def read_recording(path: Path, sample_rate: int) -> Tensor:
    """Return a recording as a model takes it, `(T,)` in [-1, 1]; one line says what was converted.

    Another sample rate is resampled, several channels are mixed down, samples past 1.0 are limited.

    Raises:
        DataError: It is damaged, has samples past `MAX_OVERSHOOT`, or is shorter than one sample at
            the rate of the model.
    """
    header, channels = read_header(path), read_samples(path)
    changes = []
    past_one, peak = int((np.abs(channels) > 1).sum()), float(np.abs(channels).max(initial=0))
    if peak > MAX_OVERSHOOT:
        raise DataError(
            f"{printable(path)}: {past_one} samples past 1.0, peak {peak:.4g}, perhaps damaged: "
            "scale it to [-1, 1], or use another recording"
        )
    samples = channels.clip(-1, 1).mean(axis=1)
    if header.sample_rate != sample_rate:
        changes.append(f"resampled from {header.sample_rate} to {sample_rate} Hz")
        blocks = [*resampled([samples], header.sample_rate, sample_rate)]
        samples = np.concatenate(blocks).clip(-1, 1)
    if header.channels != 1:
        changes.append(f"{header.channels} channels mixed down to one")
    if past_one:
        changes.append(f"{past_one} samples past 1.0 limited")
    if has_open_end(path):
        changes.append(OPEN_END)
    if changes:
        log.info("%s: %s", printable(path), ", ".join(changes))
    if not len(samples):
        raise DataError(
            f"{printable(path)}: {header.frames} samples at {header.sample_rate} Hz are less than "
            f"one at {sample_rate} Hz: use a longer recording"
        )
    return torch.from_numpy(samples)


@dataclass(frozen=True)
class InputFile:
    """A file of an input folder.

    Attributes:
        name: Its path relative to the folder, with forward slashes, without suffix.
        path: The file.
        output: The WAV file to generate from it.
        size: Its size in bytes.
    """

    name: str
    path: Path
    output: Path
    size: int

    def seed(self, seed: int) -> int:
        """Return the seed of its noise: the first 63 bits of the SHA-256 of `SEED:NAME`.

        Args:
            seed: The seed of the command.
        """
        text = f"{seed}:{self.name}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def input_suffixes(audio: AudioConfig, *, prompts: bool) -> tuple[str, ...]:
    """Return the suffixes of files that a model can be given, as its features allow."""
    names = {*audio.features}
    if prompts or not names:
        return RECORDINGS
    if names == {"frames"}:
        return ARRAYS
    scores = SCORES if names in ({"score"}, {"score", "frames"}) else ()
    return (*RECORDINGS, *scores, *(ARRAYS if names == {"mel"} else ()))


def list_inputs(folder: Path, output: Path, suffixes: Collection[str]) -> list[InputFile]:
    """Return the input files in a folder and its subfolders, sorted by name.

    Hidden files, hidden folders and linked folders are ignored. A score next to a recording of the
    same name belongs to that recording.

    Args:
        folder: The input folder.
        output: The output folder.
        suffixes: In lower case.

    Raises:
        ConfigError: Two inputs would have the same output.
        DataError: There are none.
        MachineError: A folder cannot be read.
    """
    found = list_files(folder, folder, suffixes={suffix[1:] for suffix in suffixes})
    if not found.sources:
        raise DataError(
            f"{printable(folder)} has no input files, also in its subfolders; supported: "
            f"{' '.join(sorted(suffixes))}"
        )
    scores = {source for source in found.sources if f".{source.suffix}" in SCORES}
    recordings = {_stem(source.name) for source in found.sources if source not in scores}
    taken: dict[str, Source] = {}
    for source in found.sources:
        stem = _stem(source.name)
        if source in scores and stem in recordings:
            continue
        if stem in taken:
            both = f"{printable(taken[stem].name)} and {printable(source.name)}"
            raise ConfigError(
                f"the output of {both} would be {printable(stem)}.wav: rename one of them"
            )
        taken[stem] = source
    return [
        InputFile(stem, source.path, output / f"{stem}.wav", source.size)
        for stem, source in taken.items()
    ]


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)
