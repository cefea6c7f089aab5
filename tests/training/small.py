"""The smallest training there is, for tests of what happens around it."""

import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from wavenet.config import WaveNetConfig
from wavenet.training.checkpointing import DurableCheckpointIO
from wavenet.training.module import TrainingModule

CONFIG = WaveNetConfig(
    quantization_channels=8, dilations=(1, 2), residual_channels=4, gate_channels=4
)


def fit(module: TrainingModule, folder: Path, steps: int, *callbacks: pl.Callback) -> None:
    """Train on noise, a batch an update, without a log."""
    generator = torch.Generator().manual_seed(1)
    batches = [
        {
            "waveform": torch.rand(1, 12, generator=generator) - 0.5,
            "mask": torch.ones(1, 12),
            "count": torch.tensor(12.0),
        }
        for _ in range(steps)
    ]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=list(callbacks),
        plugins=[DurableCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
