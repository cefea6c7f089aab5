"""Options of a training run: optimizer, trainer, and the run with its model and data."""

from dataclasses import dataclass, field
from typing import Literal

from wavenet.config import AudioConfig, WaveNetConfig, check_conditioning
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import MAX_SECONDS, MAX_SEED, EvaluationOptions
from wavenet.model_card import BaseModel
from wavenet.utils.dataclass_io import Options, check, option


@dataclass(frozen=True, kw_only=True)
class OptimOptions(Options):
    """Optimizer (Adam), learning rate schedule and EMA of the weights."""

    lr: float = option(1e-3, "Peak learning rate, reached after the warm-up", gt=0)
    betas: tuple[float, ...] = option((0.9, 0.999), "Adam's betas", ge=0, lt=1, min_length=2)
    eps: float = option(1e-8, "Adam's epsilon", gt=0)
    weight_decay: float = option(0.0, "Weight decay", ge=0)
    decoupled_weight_decay: bool = option(False, "Decoupled weight decay, as AdamW")
    warmup_steps: int = option(100, "Steps of linear warm-up from 0", ge=0)
    lr_schedule: Literal["constant", "cosine", "exponential"] = option(
        "cosine", "Learning rate after the warm-up"
    )
    min_lr_ratio: float = option(0.05, "Learning rate at the schedule's end over lr", gt=0, le=1)
    lr_schedule_steps: int | None = option(
        None,
        "Steps of the schedule, whose last value then holds; null for trainer.max_steps, and in a "
        "resumed run for those it began with, if they did not end in the warm-up",
        ge=1,
    )
    max_grad_norm: float | None = option(1.0, "Gradient clipping by norm; null for none", gt=0)
    ema_decay: float | None = option(
        0.999,
        "Decay of the EMA of weights that is validated and exported; null for none",
        ge=0,
        lt=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(len(self.betas) == 2, "betas", "two numbers", list(self.betas))


@dataclass(frozen=True, kw_only=True)
class TrainerOptions(Options):
    """Length of training, batches, device, validation and checkpoints."""

    max_steps: int = option(100_000, "Optimizer steps", ge=1)
    global_batch_size: int = option(8, "Segments of a step, over all processes", ge=1)
    segment_length: int = option(
        8192, "Samples of each segment in the loss; the receptive field comes before them", ge=1
    )
    accumulate_grad_batches: int = option(
        1, "Gradient accumulation: batches that a step is computed in, to save memory", ge=1
    )
    precision: Literal["32-true", "tf32", "bf16-mixed"] = option(
        "32-true",
        "bf16-mixed: products in bfloat16 under autocast; tf32: in TF32 on a GPU, but not of mels",
    )
    torch_compile: bool = option(
        False, "torch.compile of input, head and loss; slower on CPUs, measure it on a GPU"
    )
    activation_checkpointing: bool = option(
        False, "Recompute blocks in the backward pass: a third less memory, a fifth more time"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "auto uses a GPU if available")
    balance_speakers: bool = option(False, "Sample every speaker equally often")
    freeze: tuple[str, ...] = option(
        (), "Parameters or modules that stay as they are, by name or glob, such as input, *.bias"
    )
    num_workers: int = option(0, "Data loading processes; 0 loads in the training process", ge=0)
    ddp_timeout_seconds: float = option(
        60.0, "Training processes that are silent for longer are lost", gt=0, le=MAX_SECONDS
    )
    auto_requeue: bool = option(False, "Requeue the Slurm job when it ends early, with SIGUSR1")
    on_nonfinite: Literal["stop", "skip"] = option(
        "stop", "Steps with NaN or infinite gradients: stop training, or skip up to 20 in a row"
    )
    save_every_n_steps: int = option(1000, "Steps between training checkpoints", ge=1)
    save_last_k: int = option(2, "Training checkpoints to keep", ge=1)
    save_best: bool = option(True, "Also save and keep a checkpoint of the best validation")
    val_every_n_steps: int = option(1000, "Steps between validations", ge=1)
    val_seconds: float | None = option(
        60.0, "Held-out audio of a validation; null for all", gt=0, le=MAX_SECONDS
    )
    preview_seconds: float = option(
        1.0, "Held-out clip in TensorBoard, teacher-forced and generated; 0 for none", ge=0
    )

    logger: tuple[Literal["tensorboard", "csv", "wandb"], ...] = option(
        ("tensorboard",),
        "Where curves go: tensorboard/ or metrics.csv of the run, Weights & Biases; [] for nowhere",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        size, batches = self.global_batch_size, self.accumulate_grad_batches
        wanted = f"a multiple of accumulate_grad_batches={batches}"
        check(size % batches == 0, "global_batch_size", wanted, size)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Options):
    """A training run; written to its folder as `run.json`."""

    name: str = option(help="Name of the recipe; the run folder is runs/NAME")
    seed: int = option(0, "Seed of initial weights, segments and dropout", ge=0, le=MAX_SEED)
    init: str | None = option(
        None, "Model to fine-tune, as wavenet.load takes it; model and audio are its own"
    )
    init_ignore: tuple[str, ...] = option(
        (), "Its modules or parameters that start from new weights, such as head"
    )
    audio: AudioConfig = option(help="Meaning of the signal, and its features")
    model: WaveNetConfig = option(help="Shape of the weights")
    data: DataOptions = option(help="Recordings and their preparation")
    optim: OptimOptions = option(help="Optimizer, schedule and EMA")
    trainer: TrainerOptions = option(help="Steps, batches, device, validation and checkpoints")
    evaluation: EvaluationOptions = option(help="Measures and recordings after training")
    license: str | None = option(
        None, "License of the weights for the model card, by SPDX identifier such as CC-BY-4.0"
    )
    data_license: str | None = option(None, "License of the recordings, for the model card")
    lineage: tuple[BaseModel, ...] = field(default=())  # no key: read from the model of `init`

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.init is not None or not self.init_ignore, "init", "given with init_ignore", None)
        rate = self.audio.sample_rate
        check(self.data.sample_rate == rate, "data.sample_rate", str(rate), self.data.sample_rate)
        if not self.data.use_speakers:  # with speakers, their number comes from the data
            check_conditioning(self.model, self.audio)
