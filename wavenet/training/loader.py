"""The training loader. Its order is a pure function of seed, step and rank: it has no state."""

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Sampler

from wavenet.data.dataset import RandomSegments
from wavenet.training.data import TrainingData
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.options import RunConfig
from wavenet.training.workers import POLL_SECONDS, ErrorsAsItems, SegmentLoader, start_worker


class CountFrom(Sampler[int]):
    """The numbers of the batches, from `first` on, without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def build_loader(
    data: TrainingData, config: RunConfig, *, step: int, group: ProcessGroup
) -> SegmentLoader:
    """Return an endless loader of this process's batches of segments.

    Args:
        data: Clips that segments are drawn from.
        config: Batch size, segment length, workers, seed, and the model's receptive field.
        step: Updates that came before.
        group: The processes that share the segments of an update.
    """
    options = config.trainer
    segments = RandomSegments(
        data.reader,
        data.train,
        segment_length=options.segment_length,
        context=config.model.receptive_field,
        batch_size=options.global_batch_size,
        seed=config.seed,
        rank=group.rank,
        world_size=group.size,
        accumulate_grad_batches=options.accumulate_grad_batches,
        balance_speakers=options.balance_speakers,
    )
    loader = DataLoader(
        ErrorsAsItems(segments),
        batch_size=None,
        sampler=CountFrom(step * options.accumulate_grad_batches),
        num_workers=options.num_workers,
        worker_init_fn=start_worker,
        timeout=POLL_SECONDS if options.num_workers else 0,
        generator=torch.Generator(),  # the default one belongs to the model
    )
    return SegmentLoader(loader)
