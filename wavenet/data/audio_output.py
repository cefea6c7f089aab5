"""Mono audio files of several formats, chosen by suffix and written as the samples come."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wavenet.data.audio import check_samples, open_wav, pcm16, soundfile
from wavenet.utils.errors import ConfigError, MachineError, printable
from wavenet.utils.files import atomic_file

ENCODINGS = {  # by suffix, in libsndfile's words
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
OUTPUT_SUFFIXES = (".wav", *ENCODINGS)
ENCODER_BLOCK = 1 << 14  # samples; the Vorbis encoder keeps a block on its stack


class AudioWriter(Protocol):
    """Appends samples to a file."""

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append `samples`, `(T,)` in [-1, 1]."""


@contextlib.contextmanager
def open_audio(path: Path, sample_rate: int) -> Iterator[AudioWriter]:
    """Yield a writer of a mono file, whose suffix decides the format, one of `OUTPUT_SUFFIXES`.

    WAV and FLAC hold the same 16-bit codes; Ogg Vorbis and MP3 are lossy. The file gets its name
    when the block succeeds; after an exception nothing is left.

    Args:
        path: Where the file will be.
        sample_rate: Samples a second, in Hz.

    Raises:
        ConfigError: The format has no such sample rate, or libsndfile cannot write it.
        DataError: A sample is past 1.0 or not finite.
        MachineError: The disk is full, or the folder cannot be written.
    """
    encoding = ENCODINGS.get(path.suffix.lower())
    if encoding is None:
        with open_wav(path, sample_rate) as wav:
            yield wav
        return
    container, subtype = encoding
    library = soundfile()
    if container not in library.available_formats() or not library.check_format(*encoding):
        raise ConfigError(
            f"{printable(path)}: this libsndfile, {library.__libsndfile_version__}, does not write "
            f"{container}: use a .wav or .flac file"
        )
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
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
