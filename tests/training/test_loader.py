import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training.small import run_config, single_process
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.training.data import load_training_data
from wavenet.training.loader import build_loader


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_that_starts_later_continues_the_same_batches(
    recordings: Path, tmp_path: Path, num_workers: int
) -> None:
    folder = tmp_path / "prepared"
    prepare_clips(make_plan(recordings, folder, PrepareOptions(sample_rate=8000)), quiet=True)
    options = {"global_batch_size": 2, "segment_length": 100}
    config = run_config(**options)
    config = dataclasses.replace(
        config,
        audio=dataclasses.replace(config.audio, sample_rate=8000),
        data=DataOptions(sample_rate=8000, processed_dir=str(folder)),
    )
    data = load_training_data(config)

    def batches(step: int, count: int, workers: int) -> list[torch.Tensor]:
        trainer = dataclasses.replace(config.trainer, num_workers=workers)
        changed = dataclasses.replace(config, trainer=trainer)
        loader = build_loader(data, changed, step=step, group=single_process())
        with loader.raise_on_lost_worker():
            return [batch["waveform"] for batch in islice(loader, count)]

    all_batches = batches(0, 8, 0)
    before = torch.get_rng_state()
    rest = batches(5, 3, num_workers)

    assert all(torch.equal(one, other) for one, other in zip(all_batches[5:], rest, strict=True))
    assert torch.equal(torch.get_rng_state(), before), "the loader used the model's random numbers"
