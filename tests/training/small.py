"""The smallest training there is, for tests of what happens around it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wavenet.checkpoint import TrainingInfo
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluationOptions
from wavenet.model import WaveNet
from wavenet.training.checkpointing import CheckpointManager
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.loader import Batch, SegmentLoader
from wavenet.training.loop import Objective, TrainingLoop
from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
from wavenet.training.progress import TrainingProgress
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState
from wavenet.training.validation import History, Validation

CONFIG = WaveNetConfig(
    quantization_channels=8, dilations=(1, 2), residual_channels=4, gate_channels=4
)

SAMPLES = 12  # of a batch


def single_process() -> ProcessGroup:
    return ProcessGroup(Launch(), torch.device("cpu"))


def new_state(optim: OptimOptions | None = None) -> TrainingState:
    return TrainingState(WaveNet(CONFIG), optim or OptimOptions())


def run_config(**options: Any) -> RunConfig:
    return RunConfig(
        name="small",
        seed=0,
        audio=AudioConfig(),
        model=CONFIG,
        data=DataOptions(sample_rate=AudioConfig().sample_rate),
        optim=OptimOptions(),
        trainer=TrainerOptions(**options),
        evaluation=EvaluationOptions(),
    )


class AfterUpdate(TrainingProgress):
    """Calls a function with the state where the progress would be shown."""

    call: Callable[[TrainingState], None]

    def update(self, state: TrainingState, nats: float) -> None:
        self.call(state)


def noise_batches() -> list[Batch]:
    """A hundred batches of noise, an update each."""
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "waveform": torch.rand(1, SAMPLES, generator=generator) - 0.5,
            "mask": torch.ones(1, SAMPLES),
            "count": torch.tensor(float(SAMPLES)),
        }
        for _ in range(100)
    ]


def build_loop(
    run: Path,
    state: TrainingState,
    after_update: Callable[[TrainingState], None] = lambda state: None,
    **options: Any,
) -> TrainingLoop:
    """A loop over noise without held-out audio; `after_update` is called before a checkpoint."""
    config = run_config(preview_seconds=0.0, **options)
    history, sync = History(), GradientSync(single_process(), StopFlag())
    loader = SegmentLoader(noise_batches()[state.step :])  # type: ignore[arg-type]
    progress = AfterUpdate(lambda count=1, postfix="": None, config, run, history, loader)
    progress.call = after_update
    return TrainingLoop(
        state,
        Objective(state.model, None),
        loader,
        sync,
        Validation(run, config, history, sync, TrainingInfo()),
        CheckpointManager(run, config.trainer, history, sync),
        progress,
        config.optim,
        config.trainer,
    )
