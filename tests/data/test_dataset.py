from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from wavenet.data.audio import open_wav
from wavenet.data.dataset import ClipReader, RandomSegments, SequentialSegments
from wavenet.data.manifest import Clip, read_manifest, write_manifest
from wavenet.utils.errors import ConfigError, DataError

LENGTHS = (1000, 5, 333, 40)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Write clips whose sample `t` of clip `i` is code `1 + 2000 * i + t`: never 0, never equal."""
    written = []
    for index, frames in enumerate(LENGTHS):
        codes = 1 + 2000 * index + np.arange(frames)
        with open_wav(tmp_path / f"{index}.wav", 100) as writer:
            writer.write((codes / 32768).astype(np.float32))
        source = f"{index}.wav"
        written.append(Clip(source, frames, 100, "", "train", "0" * 64, source, 0))
    return written


def random_segments(folder: Path, clips: Sequence[Clip], **changes: Any) -> RandomSegments:
    arguments = {"segment_length": 32, "context": 20, "batch_size": 4, "seed": 1, **changes}
    return RandomSegments(ClipReader(folder), clips, **arguments)


def codes_of(waveform: torch.Tensor) -> NDArray[np.int64]:
    return (waveform * 32768).round().long().numpy()


def every(windows: SequentialSegments) -> list[dict[str, torch.Tensor]]:
    return [windows[index] for index in range(len(windows))]


def test_a_batch_is_a_pure_function_of_seed_index_and_rank(
    tmp_path: Path, clips: list[Clip]
) -> None:
    first, again = random_segments(tmp_path, clips), random_segments(tmp_path, clips)
    later = [again[step]["waveform"] for step in (7, 3)]

    torch.testing.assert_close(first[3]["waveform"], later[1])
    others = [
        first[4],
        random_segments(tmp_path, clips, seed=2)[3],
        random_segments(tmp_path, clips, rank=1, world_size=2)[3],
    ]
    assert not any(torch.equal(first[3]["waveform"], other["waveform"]) for other in others)


OLD = {  # clip and target of two batches, as drawn ever since
    False: "0:580 0:721 0:948 0:739 1:1 2:5 0:458 0:491 0:871 0:542 2:326 0:158",
    True: "0:66 0:931 3:11 0:786 3:13 3:9 2:201 0:449 0:493 0:64 3:32 2:271",
}


@pytest.mark.parametrize("balance", [False, True])
def test_a_seed_draws_the_same_crops_in_every_version(
    tmp_path: Path, clips: list[Clip], balance: bool
) -> None:
    voices = ("many", "rare", "", "rare")
    labeled = [replace(clip, speaker=name) for clip, name in zip(clips, voices, strict=True)]
    write_manifest(tmp_path / "manifest.jsonl", labeled)

    for source in (labeled, read_manifest(tmp_path)):
        data = random_segments(tmp_path, source, balance_speakers=balance)
        drawn = [data._draw(step, item) for step in (0, 7) for item in range(6)]
        assert " ".join(f"{clip.path[0]}:{target}" for clip, target in drawn) == OLD[balance]


def test_windows_over_a_manifest_are_those_over_its_clips(
    tmp_path: Path, clips: list[Clip]
) -> None:
    write_manifest(tmp_path / "manifest.jsonl", clips)

    both = [
        every(
            SequentialSegments(
                ClipReader(tmp_path), source, segment_length=64, context=10, limit_seconds=12.0
            )
        )
        for source in (clips, read_manifest(tmp_path))
    ]

    assert len(both[0]) == len(both[1]) == 21
    for one, other in zip(*both, strict=True):
        assert torch.equal(one["waveform"], other["waveform"])


@pytest.mark.parametrize(("size", "times"), [(3, 1), (1, 3), (1, 1), (2, 3)])
def test_ranks_and_accumulated_batches_split_one_global_batch(
    tmp_path: Path, clips: list[Clip], size: int, times: int
) -> None:
    whole = random_segments(tmp_path, clips, batch_size=6)[5]

    parts = [
        random_segments(
            tmp_path, clips, batch_size=6, rank=rank, world_size=size, accumulate_grad_batches=times
        )[5 * times + part]
        for part in range(times)
        for rank in range(size)
    ]

    assert torch.equal(torch.cat([part["waveform"] for part in parts]), whole["waveform"])
    assert torch.equal(torch.cat([part["mask"] for part in parts]), whole["mask"])
    for part in parts:
        assert float(part["count"]) == pytest.approx(float(whole["mask"].sum()) / len(parts))


def test_indivisible_global_batch_is_refused_with_the_numbers(
    tmp_path: Path, clips: list[Clip]
) -> None:
    with pytest.raises(ConfigError, match=r"batch_size=8.*3 processes.*multiple of 6"):
        random_segments(tmp_path, clips, batch_size=8, world_size=3, accumulate_grad_batches=2)


def test_segment_lies_within_one_clip_and_mask_follows_context(
    tmp_path: Path, clips: list[Clip]
) -> None:
    data = random_segments(tmp_path, clips, batch_size=300)[0]
    starts = set()

    assert data["waveform"].shape == data["mask"].shape == (300, 52)
    for codes, mask in zip(codes_of(data["waveform"]), data["mask"].numpy(), strict=True):
        index, start = divmod(int(codes[0]) - 1, 2000)
        read = min(52, LENGTHS[index])
        np.testing.assert_array_equal(codes[:read], codes[0] + np.arange(read))
        assert not codes[read:].any()
        assert start + read <= LENGTHS[index]
        wanted = np.zeros(52, bool)
        wanted[0 if start == 0 else 20 : read] = True
        np.testing.assert_array_equal(mask, wanted)
        starts.add((index, min(start, 1)))
    assert starts == {(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0)}


def test_clips_are_drawn_by_length_and_every_sample_counts(
    tmp_path: Path, clips: list[Clip]
) -> None:
    data = random_segments(tmp_path, clips, batch_size=2000)[0]
    codes = codes_of(data["waveform"])

    drawn = Counter(((codes[:, 0] - 1) // 2000).tolist())

    for index, frames in enumerate(LENGTHS):
        share = frames / sum(LENGTHS)
        spread = 4 * (share * (1 - share) / 2000) ** 0.5
        assert drawn[index] / 2000 == pytest.approx(share, abs=spread)
    counted = set(codes[data["mask"].numpy()].tolist())
    assert len(counted) == sum(LENGTHS)


@pytest.mark.parametrize(("balance", "shares"), [(True, (1, 5 / 45, 1, 40 / 45)), (False, LENGTHS)])
def test_balance_draws_rare_speakers_as_often_and_clips_by_length(
    tmp_path: Path, clips: list[Clip], balance: bool, shares: tuple[float, ...]
) -> None:
    voices = ("many", "rare", "", "rare")
    labeled = [replace(clip, speaker=name) for clip, name in zip(clips, voices, strict=True)]

    data = random_segments(tmp_path, labeled, batch_size=2000, balance_speakers=balance)[0]

    drawn = Counter(((codes_of(data["waveform"])[:, 0] - 1) // 2000).tolist())
    for index, weight in enumerate(shares):
        share = weight / sum(shares)
        spread = 4 * (share * (1 - share) / 2000) ** 0.5
        assert drawn[index] / 2000 == pytest.approx(share, abs=spread)


def test_balance_with_one_speaker_changes_nothing(tmp_path: Path, clips: list[Clip]) -> None:
    balanced = random_segments(tmp_path, clips, balance_speakers=True)[3]["waveform"]

    assert torch.equal(balanced, random_segments(tmp_path, clips)[3]["waveform"])


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_give_the_same_batches(
    tmp_path: Path, clips: list[Clip], start_method: str
) -> None:
    write_manifest(tmp_path / "manifest.jsonl", clips)
    data = random_segments(tmp_path, read_manifest(tmp_path))
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(10, 14),
        num_workers=1,
        multiprocessing_context=start_method,
    )

    batches = [batch["waveform"] for batch in loader]

    for step, batch in zip(range(10, 14), batches, strict=True):
        torch.testing.assert_close(batch, data[step]["waveform"])


@pytest.mark.parametrize(("window", "context"), [(64, 20), (1000, 0), (7, 100)])
def test_windows_cover_each_sample_once_in_order_after_its_context(
    tmp_path: Path, clips: list[Clip], window: int, context: int
) -> None:
    counted: list[int] = []
    for item in every(
        SequentialSegments(ClipReader(tmp_path), clips, segment_length=window, context=context)
    ):
        codes, mask = codes_of(item["waveform"])[0], item["mask"].numpy()[0]
        start = (int(codes[0]) - 1) % 2000
        np.testing.assert_array_equal(codes, codes[0] + np.arange(len(codes)))
        before = int(np.argmax(mask))
        assert mask[before:].all()
        assert before == min(context, start + before)
        assert mask.sum() <= window
        counted += codes[mask].tolist()

    wanted = [1 + 2000 * i + t for i, frames in enumerate(LENGTHS) for t in range(frames)]
    assert counted == wanted


@pytest.mark.parametrize(
    ("seconds", "frames"), [(2.5, 250), (10.02, 1002), (12.0, 1200), (99, 1378)]
)
def test_limit_takes_the_first_seconds(
    tmp_path: Path, clips: list[Clip], seconds: float, frames: int
) -> None:
    windows = SequentialSegments(
        ClipReader(tmp_path), clips, segment_length=64, context=10, limit_seconds=seconds
    )

    assert sum(int(item["mask"].sum()) for item in every(windows)) == frames


def test_clip_that_differs_from_the_manifest_is_a_data_error(
    tmp_path: Path, clips: list[Clip]
) -> None:
    (tmp_path / "0.wav").unlink()

    with pytest.raises(DataError, match=r"0.wav: no such file.*run wavenet-prepare"):
        SequentialSegments(ClipReader(tmp_path), clips, segment_length=64, context=0)[0]


def test_no_clips_at_all_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"larger data.valid_fraction"):
        random_segments(tmp_path, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"segment_length": 0},
        {"context": -1},
        {"batch_size": 0},
        {"seed": -1},
        {"rank": 1},
        {"accumulate_grad_batches": 0},
    ],
)
def test_an_argument_out_of_range_is_refused(
    tmp_path: Path, clips: list[Clip], changes: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        random_segments(tmp_path, clips, **changes)


@pytest.mark.parametrize("hop", [1, 32])
def test_every_sample_of_a_clip_is_eventually_counted(
    hop: int, tmp_path: Path, clips: list[Clip]
) -> None:
    reader = ClipReader(tmp_path)
    reader.hop_length = hop
    drawn = RandomSegments(reader, clips, segment_length=32, context=20, batch_size=8, seed=0)

    seen = {
        int(code)
        for step in range(100)
        for batch in [drawn[step]]
        for code in codes_of(batch["waveform"])[batch["mask"].numpy()]
    }

    assert seen == {1 + 2000 * i + t for i, frames in enumerate(LENGTHS) for t in range(frames)}


def test_segments_shorter_than_a_hop_are_refused(tmp_path: Path, clips: list[Clip]) -> None:
    reader = ClipReader(tmp_path)
    reader.hop_length = 33

    with pytest.raises(ConfigError, match="trainer.segment_length must be 33 or more"):
        RandomSegments(reader, clips, segment_length=32, context=20, batch_size=1, seed=0)
