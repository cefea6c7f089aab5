from itertools import islice
from pathlib import Path

import pytest
import torch

from wavenet.data.clip_reader import ClipReader
from wavenet.data.manifest import read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import prepare
from wavenet.training.data import training_loader
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.options import TrainerOptions


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_any_step_on_are_those_of_the_whole(
    recordings: Path, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "prepared"
    prepare(recordings, folder, PrepareOptions(sample_rate=8000), quiet=True)
    clips = read_manifest(folder, "train")
    options = TrainerOptions(global_batch_size=2, segment_length=100, num_workers=workers)

    def batches(first: int, count: int, options: TrainerOptions) -> list[torch.Tensor]:
        loader = training_loader(
            ClipReader(folder), clips, options, 20, 3, first, ProcessGroup(Launch())
        )
        return [batch["waveform"] for batch in islice(loader, count)]

    whole = batches(0, 8, TrainerOptions(global_batch_size=2, segment_length=100))
    before = torch.get_rng_state()
    rest = batches(5, 3, options)

    assert all(torch.equal(one, other) for one, other in zip(whole[5:], rest, strict=True))
    assert torch.equal(torch.get_rng_state(), before), "the loader drew from the model's numbers"
