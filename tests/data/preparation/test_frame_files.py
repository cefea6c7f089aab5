"""Frames in files beside recordings: checked, prepared and cut as the clips are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.data.preparation.conftest import content
from wavenet.config import AudioConfig, FramesConfig
from wavenet.data.manifest import Clip, read_manifest
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.prepare import (
    make_plan,
    plan_data,
    prepare_clips,
    prepare_shard,
)
from wavenet.utils.errors import ConfigError, DataError
from wavenet.utils.sharding import Shard

RATE, HOP, FRAMES = 8000, 80, 25
CONFIG = FramesConfig(sample_rate=RATE, hop_length=HOP, channels=2)


def ramp(frames: int = FRAMES) -> NDArray[np.float32]:
    """Frames that tell their own number, and a channel that tells nothing."""
    return np.stack([np.arange(frames), np.full(frames, 7)]).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three recordings of a whole number of hops and a bit, with their frames beside them."""
    folder = tmp_path / "root"
    (folder / "ann").mkdir(parents=True)
    for number in range(3):
        noise = np.random.default_rng(number).normal(scale=0.1, size=FRAMES * HOP - 30)
        soundfile.write(folder / "ann" / f"{number}.wav", noise, RATE)
        np.save(folder / "ann" / f"{number}.npy", ramp())
    return folder


def prepared(root: Path, **options: Any) -> tuple[Path, list[Clip]]:
    frames_dir = options.pop("frames_dir", None)
    settings = PrepareOptions(sample_rate=RATE, num_workers=1, **options)
    folder = root.parent / "out"
    prepare_clips(make_plan(root, folder, settings, CONFIG, frames_dir))
    return folder, [*read_manifest(folder)]


def test_each_clip_has_the_frames_of_its_recording(root: Path) -> None:
    folder, clips = prepared(root)

    assert [clip.frames_file for clip in clips] == [f"frames/ann/{i}.wav.npy" for i in range(3)]
    for clip in clips:
        np.testing.assert_array_equal(np.load(folder / clip.frames_file), ramp())
    assert json.loads((folder / "prepare.json").read_text())["summary"]["others"] == {}


def test_frames_in_a_folder_of_their_own_are_the_same(root: Path) -> None:
    beside, _ = prepared(root)
    frames = root.parent / "features"
    (frames / "ann").mkdir(parents=True)
    for path in (root / "ann").glob("*.npy"):
        save_file(
            {"frames": np.load(path)}, (frames / "ann" / path.name).with_suffix(".safetensors")
        )
        path.unlink()

    settings = PrepareOptions(sample_rate=RATE)
    prepare_clips(make_plan(root, root.parent / "other", settings, CONFIG, frames))

    found = read_manifest(root.parent / "other")
    assert found.identity == read_manifest(beside).identity


def test_pieces_of_a_recording_have_their_own_frames(root: Path) -> None:
    path = root / "ann" / "0.wav"
    samples, _ = soundfile.read(path, dtype="float32")
    sounds = np.zeros(200 * HOP, np.float32)
    for start in (30 * HOP + 11, 120 * HOP + 50):
        sounds[start : start + len(samples)] = samples
    soundfile.write(path, sounds, RATE)
    np.save(path.with_suffix(".npy"), ramp(200))

    folder, clips = prepared(root, split_top_db=40, min_seconds=0.1)

    pieces = [clip for clip in clips if clip.source == "ann/0.wav"]
    assert len(pieces) == 2
    for clip in pieces:
        frames, first = np.load(folder / clip.frames_file), clip.start // HOP
        assert clip.start % HOP == 0
        assert frames.shape == (2, -(-clip.frames // HOP))
        np.testing.assert_array_equal(frames[0], first + np.arange(frames.shape[1]))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (None, "has no frames of 1.wav: add 1.npy or 1.safetensors (data.skip_invalid=true)"),
        (ramp(24), "1.npy has 24 frames, expected 25 for 1970 samples, one every 80 (data.cut_to_"),
        (ramp(27), "1.npy has 27 frames, expected 25 for 1970 samples, one every 80"),
        (ramp().T, "1.npy has shape (25, 2), expected (2, F), a frame every 80 samples: it looks"),
        (ramp()[:1], "has shape (1, 25)"),
        (ramp() * np.nan, "holds nan in channel 0 of frame 0"),
    ],
    ids=["none", "too few", "too many", "transposed", "channels", "nan"],
)
def test_frames_that_do_not_fit_are_listed_with_the_option_that_helps(
    root: Path, frames: NDArray[np.float32] | None, message: str
) -> None:
    path = root / "ann" / "1.npy"
    path.unlink() if frames is None else np.save(path, frames)

    with pytest.raises(DataError) as error:
        prepared(root)
    assert message in str(error.value)
    assert not (root.parent / "out").exists()


def test_recordings_without_frames_can_be_left_out(root: Path) -> None:
    soundfile.write(root / "ann" / "3.wav", soundfile.read(root / "ann" / "0.wav")[0], RATE)

    _, clips = prepared(root, skip_invalid=True)

    assert [clip.source for clip in clips] == [f"ann/{number}.wav" for number in range(3)]


@pytest.mark.parametrize("frames", [20, 30])
def test_recordings_can_be_cut_to_their_frames(root: Path, frames: int) -> None:
    np.save(root / "ann" / "1.npy", ramp(frames))

    folder, clips = prepared(root, cut_to_frames=True)

    clip = clips[1]
    assert clip.frames == min(frames * HOP, FRAMES * HOP - 30)
    count = min(frames, FRAMES)
    np.testing.assert_array_equal(np.load(folder / clip.frames_file), ramp(count))


def test_a_resampled_recording_has_frames_at_the_new_rate(root: Path) -> None:
    noise = np.random.default_rng(9).normal(scale=0.05, size=2 * (FRAMES * HOP - 30) + 1)
    soundfile.write(root / "ann" / "0.wav", noise, 2 * RATE)

    folder, clips = prepared(root, resample=True, clip=True)

    assert np.load(folder / clips[0].frames_file).shape == (2, FRAMES)


def test_other_frames_are_another_folder(root: Path) -> None:
    def plan(config: FramesConfig | None = CONFIG) -> Path:
        return make_plan(root, None, PrepareOptions(sample_rate=RATE), config).output

    first, without = plan(), plan(None)
    np.save(root / "ann" / "1.npy", ramp() + 1)
    changed = plan()

    other = FramesConfig(sample_rate=RATE, hop_length=HOP // 2, channels=2)
    assert len({first, without, changed, plan(other)}) == 4


def test_a_preparation_in_parts_gives_the_same_files(root: Path) -> None:
    complete, _ = prepared(root)
    plan = make_plan(root, root.parent / "again", PrepareOptions(sample_rate=RATE), CONFIG)
    for number in (1, 2):
        prepare_shard(plan, Shard(number, 2))
    (damaged, *_) = (root.parent / ".again.partial" / "frames").rglob("*.npy")
    damaged.write_bytes(b"")  # is written again

    prepare_clips(plan)

    expected, found = content(complete), content(root.parent / "again")
    assert found.keys() == expected.keys()
    for name in found.keys() - {"manifest.index", "prepare.json"}:
        assert found[name] == expected[name], name


def test_a_folder_for_frames_needs_a_model_with_frames(root: Path) -> None:
    options = DataOptions(sample_rate=RATE, root=str(root), frames_dir="features")

    with pytest.raises(ConfigError, match="data.frames_dir is for a model with audio.frames"):
        plan_data(options, AudioConfig(sample_rate=RATE))


def test_a_manifest_without_frames_has_no_keys_for_them(root: Path) -> None:
    folder = root.parent / "plain"
    prepare_clips(make_plan(root, folder, PrepareOptions(sample_rate=RATE)))

    assert "frames_" not in (folder / "manifest.jsonl").read_text()
    assert "cut_to_frames" not in (folder / "prepare.json").read_text()
