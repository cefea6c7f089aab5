"""Mono audio files of several formats, chosen by suffix and written as the samples come."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from wavenet.data.audio import (
    WAV_MAX_BYTES,
    WavWriter,
    check_samples,
    open_wav,
    pcm16,
    soundfile,
    wave_writer,
)
from wavenet.utils.errors import ConfigError, MachineError, printable
from wavenet.utils.files import atomic_file
from wavenet.utils.memory import check_free_disk

ENCODINGS = {  # by suffix, in libsndfile's words
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
BYTES_PER_SAMPLE = 2  # of WAV
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
OUTPUT_SUFFIXES = (".wav", *ENCODINGS)
ENCODER_BLOCK = 1 << 14  # samples; the Vorbis encoder keeps a block on its stack


def check_space(lengths: Mapping[Path, int], sample_rate: int) -> None:
    """Check that files of audio fit, before the first sample is generated.

    Args:
        lengths: Samples of each file; a pipe or device takes any number.
        sample_rate: In Hz.

    Raises:
        ConfigError: A WAV file would pass 4 GiB.
        MachineError: They need more than the disk has free.
    """
    files = {path: length for path, length in lengths.items() if not is_stream(path)}
    needed: dict[Path, int] = {}
    for path, length in files.items():
        lossy = length * 8000 // sample_rate
        compressed = {".flac": length, ".ogg": lossy, ".mp3": lossy}  # as usual, or less
        size = compressed.get(path.suffix.lower(), BYTES_PER_SAMPLE * length)
        needed[path.parent] = needed.get(path.parent, 0) + size
    for folder, size in needed.items():
        check_free_disk(folder, size, "the output")
    most = WAV_MAX_BYTES // BYTES_PER_SAMPLE
    for path, length in files.items():
        if path.suffix.lower() not in ENCODINGS and length > most:
            raise ConfigError(
                f"{printable(path)}: a WAV file holds at most {most / sample_rate / 3600:.1f} hours"
                f" at {sample_rate} Hz, {length / sample_rate / 3600:,.1f} were requested: use a "
                ".flac file, or less"
            )


class AudioWriter(Protocol):
    """Appends samples to a file."""

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append `samples`, `(T,)` in [-1, 1]."""


@contextlib.contextmanager
def open_audio(
    path: Path, sample_rate: int, length: int | None = None, *, replace: bool = True
) -> Iterator[AudioWriter]:
    """Yield a writer of a mono file, whose suffix decides the format, one of `OUTPUT_SUFFIXES`.

    WAV and FLAC hold the same 16-bit codes; Ogg Vorbis and MP3 are lossy. The file gets its name
    when the block succeeds; after an exception nothing is left. A pipe or device gets WAV bytes as
    they come, and is never replaced by a file.

    Args:
        path: Where the file will be, or a pipe or device, see `is_stream`.
        sample_rate: Samples a second, in Hz.
        length: Samples that will be written, which the header for a pipe states.
        replace: Whether an existing file, also one that appeared meanwhile, is replaced.

    Raises:
        ConfigError: The format has no such sample rate, libsndfile cannot write it, or the file
            exists and is not to be replaced.
        DataError: A sample is past 1.0 or not finite.
        MachineError: The disk is full, or the folder cannot be written.
    """
    encoding = ENCODINGS.get(path.suffix.lower())
    if is_stream(path):
        if encoding is not None:
            raise ConfigError(
                f"{printable(path)}: a pipe or device takes WAV only, not {encoding[0]}"
            )
        try:
            with (
                _open_stream(path) as stream,
                wave_writer(stream, sample_rate, length or 0) as wave,
            ):
                yield WavWriter(path, wave)
        except BrokenPipeError:  # its reader has enough
            raise
        except OSError as error:
            reason = error.strerror or error
            raise MachineError(f"cannot write {printable(path)}: {reason}") from error
        return
    if encoding is None:
        with open_wav(path, sample_rate, replace=replace) as wav:
            yield wav
        return
    container, subtype = encoding
    library = soundfile()
    if container not in library.available_formats() or not library.check_format(*encoding):
        raise ConfigError(
            f"{printable(path)}: this libsndfile, {library.__libsndfile_version__}, does not write "
            f"{container}: use a .wav or .flac file"
        )
    with atomic_file(path, replace=replace) as temporary, open(temporary, "wb") as file:
        try:
            sound = library.SoundFile(
                file, "w", sample_rate, 1, subtype=subtype, format=container, closefd=False
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{printable(path)}: {container} has no sample rate of {sample_rate} Hz: use a "
                ".wav or .flac file"
            ) from error
        with sound:
            yield _EncodedWriter(path, sound, lossy=subtype != "PCM_16")


def is_stream(path: Path) -> bool:
    """Return whether a path is written through: a pipe, a terminal or like device, or stdout."""
    if path.as_posix() in STANDARD_OUTPUT:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _open_stream(path: Path) -> BinaryIO:
    """Return a pipe or device to write to; standard output by its number, which needs no path."""
    if path.as_posix() in STANDARD_OUTPUT:
        return os.fdopen(os.dup(1), "wb")
    return open(path, "wb")


class _EncodedWriter:
    """Appends samples by libsndfile's encoder."""

    def __init__(self, path: Path, sound: Any, *, lossy: bool) -> None:
        self.path = path
        self.frames = 0
        self._sound = sound
        self._lossy = lossy

    def write(self, samples: NDArray[np.float32]) -> None:
        check_samples(self.path, samples, self.frames)
        encoded = samples if self._lossy else np.frombuffer(pcm16(samples), "<i2")
        try:
            for first in range(0, len(encoded), ENCODER_BLOCK):
                self._sound.write(encoded[first : first + ENCODER_BLOCK])
        except (RuntimeError, ValueError) as error:
            raise MachineError(
                f"cannot write {printable(self.path)}: {printable(error)}"
            ) from error
        self.frames += len(samples)
