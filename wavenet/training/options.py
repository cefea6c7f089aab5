"""What can be said about a training run, beside its model and its data."""

from dataclasses import dataclass
from typing import Literal

from wavenet.config import AudioConfig, WaveNetConfig, check_conditioning
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import LENGTH, MOST_SECONDS, EvaluationOptions
from wavenet.utils.dataclass_io import check


@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """How weights follow gradients.

    Attributes:
        name: `adam`, or `adamw` with decoupled weight decay.
        lr: Highest learning rate, reached after the warm-up.
        betas: Decay of Adam's two averages.
        eps: Adam's floor under the root of the second average.
        weight_decay: Pull towards zero.
        warmup_steps: Updates over which the rate rises from 0.
        lr_schedule: After the warm-up: stay (`constant`), fall as half a `cosine`, or `exponential`.
        final_lr_ratio: Rate at the last step over `lr`.
        clip_norm: Longest gradient that is not shortened; absent for none.
        ema_decay: Weight of the past in the average of weights that is validated and exported;
            absent to use the weights themselves.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 100
    lr_schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    min_lr_ratio: float = 0.05
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = 0.999

    def __post_init__(self) -> None:
        check(self.lr > 0, "lr", "positive", self.lr)
        check(len(self.betas) == 2, "betas", "two numbers", self.betas)
        check(all(0 <= beta < 1 for beta in self.betas), "betas", "in [0, 1)", self.betas)
        check(self.eps > 0, "eps", "positive", self.eps)
        check(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)
        check(self.warmup_steps >= 0, "warmup_steps", "0 or more", self.warmup_steps)
        ratio = self.min_lr_ratio
        check(0 < ratio <= 1, "final_lr_ratio", "in (0, 1]", ratio)
        clip, decay = self.max_grad_norm, self.ema_decay
        check(clip is None or clip > 0, "max_grad_norm", "positive, or null", clip)
        check(decay is None or 0 <= decay < 1, "ema_decay", "in [0, 1), or null", decay)


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long, how much at once, on what, and what is looked at on the way.

    Attributes:
        max_steps: Updates of the weights.
        global_batch_size: Crops of one update, which all processes share out.
        segment_length: Samples of each crop that the loss covers; the receptive field comes before them.
        accumulate_grad_batches: Batches that an update is made of, one after the other, to save memory.
        precision: `32-true`, or `bf16-mixed` for matrix products in bfloat16 under autocast.
        torch_compile: Have `torch.compile` fuse what is around the stack: input, head and loss. Measure
            whether it pays, with `wavenet-benchmark train`; on CPUs it did not.
        activation_checkpointing: Keep each block's input alone for the way back, and compute the
            rest again: three tenths less memory, a fifth more time.
        device: `auto` takes a GPU where there is one.
        balance_speakers: Draw each voice as often as any other, however much of it there is.
        num_workers: Processes that read audio; 0 reads in the training process.
        timeout_seconds: Without a sign of life for so long, another training process is lost.
        auto_requeue: Ask Slurm to start the job again when it ends it early, with SIGUSR1.
        on_nonfinite: What becomes of an update whose gradient is not finite: `stop` ends training,
            `skip` leaves it out, with a warning, and stops after 20 in a row.
        save_every: Updates between saves.
        keep_last: Saves that are kept.
        keep_best: Save where a validation is the best so far too, and keep that one beside them.
        valid_every: Updates between validations.
        valid_seconds: Held-out audio that a validation covers; absent for all.
        preview_seconds: Length of the held-out clip that each validation plays back, teacher-forced
            and freely generated, in TensorBoard; 0 for none.
    """

    max_steps: int = 100_000
    global_batch_size: int = 8
    segment_length: int = 8192
    accumulate_grad_batches: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    torch_compile: bool = False
    activation_checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    balance_speakers: bool = False
    num_workers: int = 0
    ddp_timeout_seconds: float = 60.0
    auto_requeue: bool = False
    on_nonfinite: Literal["stop", "skip"] = "stop"
    save_every_n_steps: int = 1000
    save_last_k: int = 2
    save_best: bool = True
    val_every_n_steps: int = 1000
    val_seconds: float | None = 60.0
    preview_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_steps", "global_batch_size", "segment_length", "accumulate_grad_batches"):
            check(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        for name in ("save_every_n_steps", "val_every_n_steps", "save_last_k"):
            check(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        for name in ("num_workers", "preview_seconds"):
            check(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        timeout = self.ddp_timeout_seconds
        wanted = f"positive and at most {MOST_SECONDS:g}"
        check(0 < timeout <= MOST_SECONDS, "ddp_timeout_seconds", wanted, timeout)
        wanted = f"a multiple of accumulate={self.accumulate_grad_batches}"
        check(
            self.global_batch_size % self.accumulate_grad_batches == 0,
            "global_batch_size",
            wanted,
            self.global_batch_size,
        )
        seconds = self.val_seconds
        check(seconds is None or 0 < seconds <= MOST_SECONDS, "val_seconds", LENGTH, seconds)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that fixes a training run; written to its folder as `run.json`.

    Attributes:
        name: Name of the recipe, and of the run's folder.
        seed: Of first weights, crops and dropout.
        audio: Meaning of the signal.
        model: Shape of the weights.
        data: Where audio comes from.
        optim: How weights follow gradients.
        trainer: How long, how much at once, on what.
        evaluation: What is left to hear.
    """

    name: str
    seed: int
    audio: AudioConfig
    model: WaveNetConfig
    data: DataOptions
    optim: OptimOptions
    trainer: TrainerOptions
    evaluation: EvaluationOptions

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        rate = self.audio.sample_rate
        check(self.data.sample_rate == rate, "data.sample_rate", str(rate), self.data.sample_rate)
        if not self.data.use_speakers:  # whose names are not known before the data are
            check_conditioning(self.model, self.audio)
