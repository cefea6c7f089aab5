"""A model as a table: receptive field, parameters and operations of each layer.

The numbers are read from the modules; for a config, from a model that takes no memory. Operations
are those of one generated sample: two for each multiply-add of a convolution, a frame's shared by
its samples. Look-ups, biases, activations and what is computed once per signal are not counted:
they are about a hundredth of the rest.
"""

from dataclasses import dataclass

from torch import nn

from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet, meta_model
from wavenet.modules import LocalConditioner, ResidualBlock
from wavenet.modules.upsampling import Upsample
from wavenet.utils.errors import ConfigError

HEADER = ("layer", "dilation", "kernel", "receptive field", "ms", "parameters", "FLOP per sample")


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of a `WaveNet`.

    Attributes:
        name: `global conditioner`, `local conditioner` and `linear predictor` if there are any,
            `input`, `block 1` and so on, or `head`.
        dilation: Samples between taps.
        effective_kernel_size: Samples from first to last tap, both included.
        receptive_field: Past samples that this layer's output depends on.
        num_parameters: Stored weights.
        operations: Floating-point operations per generated sample, two per multiply-add.
    """

    name: str
    dilation: int = 1
    effective_kernel_size: int = 0
    receptive_field: int = 0
    num_parameters: int
    operations: int = 0


def layer_rows(model: WaveNet | WaveNetConfig) -> list[LayerRow]:
    """Return conditioners, input layer, every block and head, in the order of the signal.

    Raises:
        ConfigError: A block or conditioner was replaced by a module that cannot be counted.
    """
    if isinstance(model, WaveNetConfig):
        model = meta_model(model)
    rows, field = [], model.input.memory + 1
    if model.global_conditioner is not None:
        rows.append(_row("global conditioner", model.global_conditioner, operations=0))
    local = model.local_conditioner
    if local is not None:
        rows.append(_row("local conditioner", local, operations=round(_local_operations(local))))
    if model.predictor is not None:
        predictor = model.predictor
        field += predictor.receptive_field  # the input layer sees predictions
        row = _row(
            "linear predictor",
            predictor,
            effective_kernel_size=predictor.order,
            receptive_field=predictor.receptive_field,
            operations=predictor.operations,
        )
        rows.append(row)
    taps = model.input.memory + 1
    rows.append(_row("input", model.input, effective_kernel_size=taps, receptive_field=field))
    for index, block in enumerate(model.stack.blocks):
        if not isinstance(block, ResidualBlock):
            raise _uncountable(f"stack.blocks.{index}", block, ResidualBlock)
        field += block.conv.memory
        row = _row(
            f"block {index + 1}",
            block,
            dilation=block.conv.dilation[0],
            effective_kernel_size=block.conv.memory + 1,
            receptive_field=field,
        )
        rows.append(row)
    return [*rows, _row("head", model.head, effective_kernel_size=1, receptive_field=field)]


def layer_table(model: WaveNet | WaveNetConfig, sample_rate: int) -> str:
    """Return the layers of a model as a table to print, with totals and the receptive field.

    Args:
        model: A model, or the config of one.
        sample_rate: Samples per second, in Hz: turns the receptive field into time.
    """
    rows = layer_rows(model)
    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        numbers = (row.dilation, row.effective_kernel_size, row.receptive_field)
        milliseconds = f"{1000 * row.receptive_field / sample_rate:,.2f}"
        counts = (row.num_parameters, row.operations)
        lines.append((row.name, *_grouped(*numbers), milliseconds, *_grouped(*counts)))
    totals = (sum(row.num_parameters for row in rows), sum(row.operations for row in rows))
    lines.append(("total", *[""] * 4, *_grouped(*totals)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    printed = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in lines
    ]
    rule = "-" * len(printed[0])
    field = rows[-1].receptive_field
    caption = f"{field:,} samples, {field / sample_rate:.3g} s at {sample_rate:,} Hz"
    body = [printed[0], rule, *printed[1:-1], rule, printed[-1]]
    return "\n".join([*body, f"receptive field: {caption}"])


def _row(name: str, module: nn.Module, **numbers: int) -> LayerRow:
    """Return the row of a module; its operations are those of its convolutions if not given."""
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    numbers.setdefault("operations", _operations(module))
    return LayerRow(name=name, num_parameters=num_parameters, **numbers)


def _local_operations(conditioner: LocalConditioner) -> float:
    """Return the operations per sample of what turns frames into the conditioning of samples."""
    if not isinstance(conditioner, LocalConditioner):
        raise _uncountable("local_conditioner", conditioner, LocalConditioner)
    rate = 1 / conditioner.hop_length  # of frames, relative to the rate of samples
    operations = _operations(conditioner.conv_in) * rate
    if conditioner.context is not None:
        operations += _operations(conditioner.context) * rate
    for index, stage in enumerate(conditioner.upsampling):
        if not isinstance(stage, Upsample):
            raise _uncountable(f"local_conditioner.upsampling.{index}", stage, Upsample)
        operations += stage.operations_per_input() * rate
        rate *= stage.scale
    return operations


def _operations(module: nn.Module) -> int:
    """Return the operations of all convolutions of a module for one output each."""
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv1d)]
    return sum(2 * convolution.weight.numel() for convolution in convolutions)


def _grouped(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _uncountable(name: str, module: nn.Module, wanted: type[nn.Module]) -> ConfigError:
    return ConfigError(
        f"the model has no summary: {name} is {type(module).__name__}, not a {wanted.__name__}"
    )
