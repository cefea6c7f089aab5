"""Training: `TrainingLoop` and what stands around it; `recipes/train.py` puts it together.

Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavenet.training.acceleration import accelerate, keep_freed_memory
    from wavenet.training.audio_preview import build_preview
    from wavenet.training.checkpointing import CheckpointManager
    from wavenet.training.data import TrainingData, load_training_data
    from wavenet.training.distributed.gradient_sync import GradientSync
    from wavenet.training.distributed.process_group import ProcessGroup, join_process_group
    from wavenet.training.final_report import write_final_report
    from wavenet.training.loader import build_loader
    from wavenet.training.loop import TrainingLoop
    from wavenet.training.objective import Objective
    from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
    from wavenet.training.progress import TrainingProgress
    from wavenet.training.run import (
        is_finished,
        load_last_checkpoint,
        read_run,
        requeue_if_preempted,
        resume_run,
        start_run,
        write_config,
    )
    from wavenet.training.run_dir import locked_run_dir
    from wavenet.training.signals import StopFlag
    from wavenet.training.state import TrainingState, seed_everything
    from wavenet.training.tensorboard import TensorBoard
    from wavenet.training.validation import History, Validation

_HOMES = {
    "acceleration": ("accelerate", "keep_freed_memory"),
    "audio_preview": ("build_preview",),
    "checkpointing": ("CheckpointManager",),
    "data": ("TrainingData", "load_training_data"),
    "distributed.gradient_sync": ("GradientSync",),
    "distributed.process_group": ("ProcessGroup", "join_process_group"),
    "final_report": ("write_final_report",),
    "loader": ("build_loader",),
    "loop": ("TrainingLoop",),
    "objective": ("Objective",),
    "options": ("OptimOptions", "RunConfig", "TrainerOptions"),
    "progress": ("TrainingProgress",),
    "run": (
        *("is_finished", "load_last_checkpoint", "read_run", "requeue_if_preempted"),
        *("resume_run", "start_run", "write_config"),
    ),
    "run_dir": ("locked_run_dir",),
    "signals": ("StopFlag",),
    "state": ("TrainingState", "seed_everything"),
    "tensorboard": ("TensorBoard",),
    "validation": ("History", "Validation"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CheckpointManager",
    "GradientSync",
    "History",
    "Objective",
    "OptimOptions",
    "ProcessGroup",
    "RunConfig",
    "StopFlag",
    "TensorBoard",
    "TrainerOptions",
    "TrainingData",
    "TrainingLoop",
    "TrainingProgress",
    "TrainingState",
    "Validation",
    "accelerate",
    "build_loader",
    "build_preview",
    "is_finished",
    "join_process_group",
    "keep_freed_memory",
    "load_last_checkpoint",
    "load_training_data",
    "locked_run_dir",
    "read_run",
    "requeue_if_preempted",
    "resume_run",
    "seed_everything",
    "start_run",
    "write_config",
    "write_final_report",
]


def __getattr__(name: str) -> Any:
    """Load what `__all__` names from the file that holds it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"wavenet.training.{_MODULES[name]}"), name)
