"""Reads audio files of any format, and writes 16-bit WAV files, as float32 in [-1, 1].

libsndfile reads; what it silently accepts is an error here: a truncated file, a header with absurd
sizes. The content of a file decides its format, never its suffix. Written files are streamed to a
temporary name and get their final name when they are complete.
"""

import contextlib
import functools
import io
import os
import stat
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wavenet.data.container_headers import TruncatedAudio, check_whole
from wavenet.utils.errors import DataError, MachineError, printable, require
from wavenet.utils.files import atomic_file

MAX_CHANNELS = 64
MAX_HZ = 768000
MAX_FRAMES = 2**60  # a header that means "unknown" has about 2**63
MAX_OVERSHOOT = 2.0  # peak of a lossy format; real recordings at full level decode to 1.6
WAV_HEADER_BYTES = 44
WAV_MAX_BYTES = 2**32 - 1 - WAV_HEADER_BYTES


@dataclass(frozen=True)
class AudioHeader:
    """The header of an audio file.

    Attributes:
        frames: Samples a channel.
        sample_rate: Frames a second, in Hz.
        channels: Samples a frame.
        container: libsndfile's name of the format, such as `WAV` or `FLAC`.
        encoding: libsndfile's name of the coding of samples, such as `PCM_16`.
    """

    frames: int
    sample_rate: int
    channels: int
    container: str
    encoding: str

    @property
    def is_lossy(self) -> bool:
        """Whether decoded samples may be a little past 1.0, as those of a loud recording are."""
        return self.encoding in ("VORBIS", "OPUS") or self.encoding.startswith("MPEG_LAYER")


def read_header(path: Path, *, allow_truncated: bool = False) -> AudioHeader:
    """Return the header of `path`; no sample is decoded.

    Args:
        path: An audio file of any format that libsndfile reads.
        allow_truncated: Accept a file that is shorter than its header promises.

    Raises:
        TruncatedAudio: A `DataError`: the header promises more than the file holds.
        DataError: Not a regular file, no audio, no samples, or sizes past any real file's.
    """
    with _opened(path, allow_truncated) as (_, header):
        return header


def read_blocks(
    path: Path, start: int = 0, frames: int | None = None, *, allow_truncated: bool = False
) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of `path` from frame `start` on in blocks, `(block, channels)`.

    Args:
        path: An audio file of any format that libsndfile reads.
        start: First frame.
        frames: How many; `None` for all that follow.
        allow_truncated: End without an error if the file ends before its header promises.

    Raises:
        TruncatedAudio: Fewer frames came than the header promised.
        DataError: As `read_header`, or `start` and `frames` go past the end.
    """
    with _opened(path, allow_truncated) as (sound, header):
        wanted = header.frames - start if frames is None else frames
        if start < 0 or wanted < 0 or start + wanted > header.frames:
            raise DataError(
                f"{printable(path)}: frames {start} to {start + wanted} were requested, "
                f"it has {header.frames}"
            )
        if start:
            _seek(path, sound, start)
        block = 2**12 if allow_truncated else 2**16  # all of a damaged block is lost
        done = 0
        while done < wanted:
            samples = _read(sound, min(block, wanted - done))
            done += len(samples)
            if len(samples):
                yield samples
            elif allow_truncated:
                return
            else:
                found = sum(map(len, read_blocks(path, start, frames, allow_truncated=True)))
                raise TruncatedAudio(
                    f"{printable(path)}: header promises {header.frames} frames, found "
                    f"{start + found}: cut short or damaged, copy it again from its origin"
                )


def read_samples(
    path: Path, start: int = 0, frames: int | None = None, *, allow_truncated: bool = False
) -> NDArray[np.float32]:
    """Return samples of `path`, `(frames, channels)`, all finite.

    Float files may hold values past 1.0, which are returned as they are.

    Args:
        path: As for `read_blocks`.
        start: First frame.
        frames: How many; `None` for all that follow.
        allow_truncated: Return the samples of a file that ends before its header promises.

    Raises:
        DataError: As `read_blocks`, or a sample is not finite.
    """
    blocks = list(read_blocks(path, start, frames, allow_truncated=allow_truncated))
    samples = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
    if not np.isfinite(samples).all():
        frame, channel = np.argwhere(~np.isfinite(samples))[0]
        raise DataError(
            f"{printable(path)}: frame {start + frame} of channel {channel} is "
            f"{samples[frame, channel]}, samples must be finite: write the file again"
        )
    return samples


@contextlib.contextmanager
def open_wav(path: Path, sample_rate: int, *, replace: bool = True) -> Iterator["WavWriter"]:
    """Yield a writer of a mono 16-bit WAV file, which takes samples as they come.

    The file gets its name when the block succeeds; after an exception nothing is left.

    Args:
        path: Where the file will be.
        sample_rate: Samples a second, in Hz.
        replace: Whether an existing file is replaced.

    Raises:
        ConfigError: The file exists, and is not to be replaced.
        DataError: The rate is out of range.
        MachineError: The disk is full, or the folder cannot be written.
    """
    if not 1 <= sample_rate <= MAX_HZ:
        raise DataError(f"sample_rate must be 1 to {MAX_HZ}, got {sample_rate}")
    with (
        atomic_file(path, replace=replace) as temporary,
        open(temporary, "wb") as file,
        wave_writer(file, sample_rate) as writer,
    ):
        yield WavWriter(path, writer)


class WavWriter:
    """Appends samples to a WAV file; made by `open_wav`."""

    def __init__(self, path: Path, writer: wave.Wave_write) -> None:
        self.path = path
        self.frames = 0
        self._writer = writer

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append `samples`, `(T,)` in [-1, 1]; 1.0 itself becomes the largest code, 32767.

        Raises:
            DataError: A sample is past 1.0 or not finite, or the file would pass 4 GiB.
        """
        check_samples(self.path, samples, self.frames)
        if (self.frames + len(samples)) * 2 > WAV_MAX_BYTES:
            raise DataError(
                f"{printable(self.path)}: a WAV file holds at most {WAV_MAX_BYTES // 2} samples: "
                "cut the signal into several files"
            )
        self._writer.writeframesraw(pcm16(samples))
        self.frames += len(samples)


def check_samples(path: Path, samples: NDArray[np.float32], before: int) -> None:
    """Raise a `DataError` if one of `samples`, `(T,)`, is past 1.0 or not finite.

    Args:
        path: File that they are for.
        samples: What is appended.
        before: Samples that the file has already.
    """
    if samples.ndim != 1:
        raise ValueError(f"samples must be (T,), got {samples.shape}")
    bad = ~(np.abs(samples) <= 1.0)  # NaN too
    if bad.any():
        index = int(np.argmax(bad))
        raise DataError(
            f"{printable(path)}: sample {before + index} is {samples[index]}, "
            "must be in [-1, 1]: clip or scale the signal first"
        )


def wav_bytes(samples: NDArray[np.floating[Any]], sample_rate: int) -> bytes:
    """Return `samples`, `(T,)`, as a mono 16-bit WAV file; values outside [-1, 1] are clipped."""
    buffer = io.BytesIO()
    with wave_writer(buffer, sample_rate) as writer:
        writer.writeframesraw(pcm16(np.clip(samples, -1, 1)))
    return buffer.getvalue()


class _WaveWriter(wave.Wave_write):
    """A writer that a `with` block closes, and nothing else.

    A signal may come before it has its parameters, or the file may be closed already: closing it
    again when it is deleted would print a traceback.
    """

    def __del__(self) -> None:
        pass


def wave_writer(file: BinaryIO, sample_rate: int, length: int = 0) -> wave.Wave_write:
    """Return a writer of mono 16-bit samples, which completes the header when it is closed.

    A pipe has no way back to the header: `length` is the number of samples that it states.
    """
    writer = _WaveWriter(file)
    writer.setparams((1, 2, sample_rate, length, "NONE", "not compressed"))
    return writer


def pcm16(samples: NDArray[np.floating[Any]]) -> bytes:
    """Return samples in [-1, 1] as 16-bit codes, little endian."""
    codes = np.minimum(np.rint(samples.astype(np.float64) * 32768.0), 32767.0)
    return codes.astype("<i2").tobytes()


@functools.cache
def soundfile() -> Any:
    """Return the module `soundfile`; a `MachineError` names the extra that installs it."""
    return require("soundfile", "generate")


@contextlib.contextmanager
def _opened(path: Path, allow_truncated: bool) -> Iterator[tuple[Any, AudioHeader]]:
    """Yield libsndfile's handle on `path` and the header that it read, checked."""
    with contextlib.ExitStack() as stack:
        try:
            _check_file(path)
            file = stack.enter_context(open(path, "rb", buffering=0))
            if not allow_truncated:
                check_whole(path)
            # By descriptor libsndfile sees no suffix to guess from; Windows has none to share.
            place = str(path) if os.name == "nt" else file.fileno()
            sound = stack.enter_context(soundfile().SoundFile(place, closefd=False))
        except OSError as error:
            raise MachineError(
                f"cannot read {printable(path)}: {error.strerror or error}"
            ) from error
        except (RuntimeError, ValueError) as error:
            reason = printable(getattr(error, "error_string", error)).rstrip(".")
            raise DataError(
                f"{printable(path)}: no audio that libsndfile reads ({reason}): "
                "convert it, as in ffmpeg -i OLD NEW.wav"
            ) from error
        header = AudioHeader(
            sound.frames, sound.samplerate, sound.channels, sound.format, sound.subtype
        )
        _check_header(path, header)
        yield sound, header


def _seek(path: Path, sound: Any, frame: int) -> None:
    try:
        sound.seek(frame)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{printable(path)}: cannot be read from frame {frame} on: cut short, damaged, or of a "
            "coding that is read from its start only; convert it, as in ffmpeg -i OLD NEW.wav"
        ) from error


def _read(sound: Any, frames: int) -> NDArray[np.float32]:
    """Return up to `frames` frames, none where the decoder gives up."""
    try:
        samples: NDArray[np.float32] = sound.read(frames, dtype="float32", always_2d=True)
    except (RuntimeError, ValueError):
        samples = np.zeros((0, sound.channels), np.float32)
    return samples


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        broken = "a broken link" if path.is_symlink() else "no such file"
        raise DataError(f"{printable(path)}: {broken}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
        raise DataError(f"{printable(path)}: is {kind}, wanted an audio file")
    if found.st_size == 0:
        raise DataError(f"{printable(path)}: is empty (0 bytes): copy it again from its origin")


def _check_header(path: Path, header: AudioHeader) -> None:
    limits = (
        (header.frames, 1, MAX_FRAMES, "frames"),
        (header.channels, 1, MAX_CHANNELS, "channels"),
        (header.sample_rate, 1, MAX_HZ, "Hz"),
    )
    for found, least, most, unit in limits:
        if not least <= found <= most:
            wanted = f"{least} or more" if found < least else f"{least} to {most}"
            raise DataError(
                f"{printable(path)}: header says {found} {unit}, wanted {wanted}: "
                "write the file again, as in ffmpeg -i OLD NEW.wav"
            )
