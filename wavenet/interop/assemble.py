"""From folded tensors in our names to a `WaveNet` with the meaning of its audio."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from wavenet.checkpoint import all_finite
from wavenet.config import (
    AudioConfig,
    FramesConfig,
    LocalConfig,
    MelConfig,
    WaveNetConfig,
    check_conditioning,
)
from wavenet.interop.source import Imported, Source
from wavenet.model import meta_model
from wavenet.model_card import TrainingInfo
from wavenet.utils.errors import CheckpointError, ConfigError

NO_STATISTICS = (
    "the project normalizes each mel band by mean and deviation of its corpus, which are not "
    "given: only its own normalized frames (.npy) fit; for frames of recordings import again with "
    "mean=mean.npy std=scale.npy, a number for each band"
)
NO_FRAME_STATISTICS = (
    "give frames that are normalized as the project's were, or import again with mean=mean.npy "
    "std=scale.npy, a number for each channel, which are then applied to what is given"
)
ONE_SAMPLE_LATE = (
    "the project trains each sample on the conditioning of the sample before and generates it on "
    "its own, which is followed here: for its training loss, delay the conditioning by one sample"
)
Features = TypeVar("Features", MelConfig, FramesConfig)


def assemble(
    source: Source,
    project: str,
    config: WaveNetConfig,
    tensors: dict[str, Tensor],
    audio: AudioConfig,
    notes: Iterable[str],
) -> Imported:
    """Return the model, once each of its and of the other project's weights is accounted for.

    Args:
        source: What was read; all of its weights are taken by now.
        project: Owner, name and version of the other project.
        config: Shape of the weights.
        tensors: Weights by our names, emptied; biases that are absent are 0.
        audio: Meaning of the signal.
        notes: Sentences on what is not as in the other project.

    Raises:
        CheckpointError: A weight is missing, extra or of another shape.
        ConfigError: The conditioning of model and audio disagree.
    """
    source.weights.finish()
    check_conditioning(config, audio)
    model = meta_model(config)
    weights = {}
    for name, meta in model.state_dict().items():
        tensor = tensors.pop(name, None)
        if tensor is None and name.endswith(".bias"):
            tensor = torch.zeros(meta.shape, dtype=source.dtype)
        if tensor is None or tensor.shape != meta.shape:
            found = "nothing" if tensor is None else tuple(tensor.shape)
            raise CheckpointError(
                f"gives {found} for {name}, where its other weights need {tuple(meta.shape)}: the "
                "config is of another model, or the file of another project"
            )
        weights[name] = tensor
        if not all_finite(tensor):
            raise CheckpointError(f"has a weight beyond {source.dtype} in {name}")
    assert not tensors, sorted(tensors)
    model.load_state_dict(weights, assign=True)
    training = TrainingInfo(steps=source.steps, base_model=f"{project}: {source.path.name}")
    return Imported(model.eval(), audio, training, tuple(notes))


def set_block(
    tensors: dict[str, Tensor],
    index: int,
    *,
    conv: tuple[Tensor, Tensor | None],
    skip: tuple[Tensor, Tensor | None],
    residual: tuple[Tensor, Tensor | None] | None,
    conditioning: Tensor | None = None,
) -> None:
    """Enter the weights of residual block `index`: pairs of weight and bias, if it has one.

    The conditioning's weight, `(G, C, 1)`, has the local columns first, then the global ones. The
    last block has no residual.
    """
    parts = {"conv": conv, "skip_conv": skip, "residual_conv": residual}
    for name, pair in parts.items():
        for kind, tensor in zip(("weight", "bias"), pair or (), strict=False):
            if tensor is not None:
                tensors[f"stack.blocks.{index}.{name}.{kind}"] = tensor
    if conditioning is not None:
        tensors[f"stack.blocks.{index}.conditioning_conv.weight"] = conditioning


def set_speakers(tensors: dict[str, Tensor], rows: Tensor) -> None:
    """Enter the speaker embedding, `(N, C)`; the null speaker is the mean of all."""
    table = torch.cat([rows, rows.mean(dim=0, keepdim=True)])
    tensors["global_conditioner.speaker_embedding.weight"] = table


def set_identity(tensors: dict[str, Tensor], channels: int) -> None:
    """Enter a first convolution over frames that changes nothing."""
    weight = torch.eye(channels, dtype=torch.float64).unsqueeze(-1)
    tensors["local_conditioner.conv_in.weight"] = weight


def dilation_cycle(count: int, cycles: int, name: str) -> tuple[int, ...]:
    """Return `count` dilations: powers of 2, from 1 on in each of `cycles` cycles.

    Raises:
        ConfigError: The blocks do not divide into so many cycles.
    """
    length, rest = divmod(count, cycles)
    if rest or not count or length > 24:
        raise ConfigError(f"{name}: {count} blocks are not {cycles} cycles of at most 24 each")
    return tuple(2 ** (index % length) for index in range(count))


def required_rate(source: Source, found: int | None = None, hint: str = "") -> int:
    """Return the sample rate, as given or as found in the config.

    Raises:
        ConfigError: There is none.
    """
    rate = source.sample_rate or found
    if rate is None:
        raise ConfigError(f"the file does not tell its sample rate: add sample_rate=HZ{hint}")
    return rate


def with_statistics(mel: MelConfig, source: Source) -> tuple[MelConfig, tuple[str, ...]]:
    """Return a mel convention with the mean and deviation that were given, and a note if not."""
    if source.mean is None or source.std is None:
        return mel, (NO_STATISTICS,)
    return _normalized(mel, source.mean, source.std), ()


def audio_of_frames(
    source: Source, local: LocalConfig, what: str, rate: int
) -> tuple[AudioConfig, tuple[str, ...]]:
    """Return the audio of a model whose frames only its own project computes, and notes.

    Args:
        source: What was read; its mean and deviation are applied to the frames.
        local: Local conditioning.
        what: The frames in words.
        rate: Sample rate in Hz.
    """
    frames = FramesConfig(
        sample_rate=rate,
        hop_length=local.hop_length,
        channels=local.in_channels,
        description=what,
    )
    known = (
        f"it is conditioned on {what}, of which only the shape is known: the input is an array "
        f"{frames.shape}, computed as its project does"
    )
    if source.mean is None or source.std is None:
        return AudioConfig(sample_rate=rate, frames=frames), (known, NO_FRAME_STATISTICS)
    frames = _normalized(frames, source.mean, source.std)
    return AudioConfig(sample_rate=rate, frames=frames), (known,)


def _normalized(config: Features, mean: tuple[float, ...], std: tuple[float, ...]) -> Features:
    channels = config.channels
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"{name} has {len(values)} numbers, a frame of the model {channels} channels"
            )
    return replace(config, mean=mean, std=std)
