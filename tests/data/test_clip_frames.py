"""Frames of files in segments: aligned with their samples, normalized, the last one repeated."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from wavenet.config import AudioConfig, F0Config, FramesConfig, MelConfig
from wavenet.data.audio import open_wav
from wavenet.data.clip_frames import read_clip_frames
from wavenet.data.dataset import ClipReader, RandomSegments, SequentialSegments
from wavenet.data.manifest import Clip
from wavenet.data.statistics import with_frame_statistics
from wavenet.evaluation.synthesis import clip_conditioning
from wavenet.features.frames import Features
from wavenet.utils.errors import DataError

RATE, HOP, LENGTH = 8000, 50, 2020
FRAMES = FramesConfig(
    sample_rate=RATE, hop_length=HOP, channels=2, mean=(10.0, 0.0), std=(2.0, 1.0)
)
AUDIO = AudioConfig(sample_rate=RATE, frames=FRAMES)
COUNT = -(-LENGTH // HOP)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Two clips whose sample `t` is code `t`, and whose frame `f` is `f` and a constant."""
    written = []
    for number in range(2):
        with open_wav(tmp_path / f"{number}.wav", RATE) as writer:
            writer.write((np.arange(LENGTH) / 32768).astype(np.float32))
        frames = np.stack([np.arange(COUNT), np.full(COUNT, number)]).astype(np.float32)
        np.save(tmp_path / f"{number}.npy", np.asfortranarray(frames))
        digest = hashlib.sha256((tmp_path / f"{number}.wav").read_bytes()).hexdigest()
        name = f"{number}.wav"
        written.append(
            Clip(name, LENGTH, RATE, "", "train", digest, name, 0, "", f"{number}.npy", "0" * 64)
        )
    return written


def numbers(frames: torch.Tensor) -> torch.Tensor:
    """Return the number of each frame, without the normalization."""
    return frames[..., 0, :] * 2 + 10


def test_frames_of_a_segment_are_those_of_its_samples(tmp_path: Path, clips: list[Clip]) -> None:
    segments = RandomSegments(
        ClipReader(tmp_path, AUDIO, lookahead=2),
        clips,
        segment_length=300,
        context=170,
        batch_size=8,
        seed=0,
    )

    for index in range(5):
        batch = segments[index]
        frames, waveform = batch["frames"], batch["waveform"]
        assert frames.shape == (8, 2, -(-waveform.shape[1] // HOP) + 2)
        start = (waveform[:, 0] * 32768).round() / HOP
        expected = (start[:, None] + torch.arange(frames.shape[-1])).clamp(max=COUNT - 1)
        torch.testing.assert_close(numbers(frames), expected)


def test_frames_of_windows_cover_each_clip_once(tmp_path: Path, clips: list[Clip]) -> None:
    windows = SequentialSegments(
        ClipReader(tmp_path, AUDIO), clips, context=100, segment_length=500
    )

    for index in range(len(windows)):
        window = windows[index]
        first = float(window["waveform"][0, 0] * 32768) / HOP
        expected = first + torch.arange(window["frames"].shape[-1])
        torch.testing.assert_close(numbers(window["frames"])[0], expected)
        assert float(window["frames"][0, 1, 0]) == index // (len(windows) // 2)


def test_frames_come_after_other_features(tmp_path: Path, clips: list[Clip]) -> None:
    mel = MelConfig(
        sample_rate=RATE, n_fft=256, hop_length=HOP, win_length=256, n_mels=4, f_max=4000
    )
    audio = dataclasses.replace(AUDIO, mel=mel, f0=F0Config(sample_rate=RATE, hop_length=HOP))
    reader = ClipReader(tmp_path, audio)

    item = {name: tensor[None] for name, tensor in reader.read(clips[1], 500, 600).items()}
    segment = Features(audio)(item)["local"]
    whole = clip_conditioning(audio, tmp_path, clips[1], LENGTH)["local"]

    assert whole.shape == (1, 4 + 3 + 2, COUNT)
    torch.testing.assert_close(segment, whole[..., 10:22])
    torch.testing.assert_close(numbers(whole[:, -2:])[0], torch.arange(COUNT).float())


def test_a_clip_that_is_cut_keeps_its_frames(tmp_path: Path, clips: list[Clip]) -> None:
    short = dataclasses.replace(clips[0], frames=330)

    frames = clip_conditioning(AUDIO, tmp_path, short, 330)["local"]

    torch.testing.assert_close(numbers(frames)[0], torch.arange(7).float())


def test_statistics_make_channels_normal_and_leave_constants(
    tmp_path: Path, clips: list[Clip]
) -> None:
    found = with_frame_statistics(tmp_path, clips[:1], FRAMES)

    frames = read_clip_frames(tmp_path, clips[0], found)
    assert found.std[1] == 1.0
    np.testing.assert_allclose(frames.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(frames.std(axis=1), [1, 0], atol=1e-5)


def test_clips_with_other_frames_are_refused(tmp_path: Path, clips: list[Clip]) -> None:
    without = dataclasses.replace(clips[0], frames_file="", frames_digest="")
    other = dataclasses.replace(FRAMES, hop_length=2 * HOP)

    with pytest.raises(DataError, match=r"0.wav has no frames.*prepare the recordings again"):
        read_clip_frames(tmp_path, without, FRAMES)
    with pytest.raises(DataError, match=r"0.npy has shape \(2, 41\), the model needs \(2, 21\)"):
        read_clip_frames(tmp_path, clips[0], other)
    (tmp_path / "0.npy").write_bytes(b"")
    with pytest.raises(DataError, match="0.npy cannot be read"):
        read_clip_frames(tmp_path, clips[0], FRAMES)
