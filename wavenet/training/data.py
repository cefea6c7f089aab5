"""Loaders whose order is a pure function of seed, step and rank: nothing of theirs is saved."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler

from wavenet.data.clip_reader import ClipReader
from wavenet.data.dataset import RandomSegments
from wavenet.data.manifest import Clip
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.options import TrainerOptions
from wavenet.training.workers import Batches, Told, start_worker


class StepsFrom(Sampler[int]):
    """The numbers of the batches, from the first one not yet seen, without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield step
            step += 1


def training_loader(
    excerpts: ClipReader,
    clips: Sequence[Clip],
    options: TrainerOptions,
    context: int,
    seed: int,
    first: int,
    team: ProcessGroup,
) -> Batches:
    """Return an endless loader of crops, this process's, that starts with batch number `first`.

    Args:
        excerpts: Reads the clips, and what conditions them.
        clips: What to draw crops from.
        options: Batch size, crop and workers.
        context: Samples before each crop, the model's receptive field.
        seed: With the batch number, what decides the crops.
        first: Batches that came before.
        team: The processes that share out each update.
    """
    crops = RandomSegments(
        excerpts,
        clips,
        crop=options.segment_length,
        context=context,
        batch_size=options.global_batch_size,
        seed=seed,
        rank=team.rank,
        world_size=team.size,
        accumulate=options.accumulate_grad_batches,
        balance=options.balance_speakers,
    )
    loader = DataLoader(
        Told(crops),
        batch_size=None,
        sampler=StepsFrom(first),
        num_workers=options.num_workers,
        worker_init_fn=start_worker,
        timeout=1 if options.num_workers else 0,  # how often `Batches` looks up while it waits
        generator=torch.Generator(),  # of its own: the default one belongs to the model
    )
    return Batches(loader)
