"""A model as a table, from its config alone: what each layer sees, stores and costs.

Counted are the weights that training stores and the operations of one generated sample: two for
each multiply-add of a convolution, those of a frame shared out among its samples. Look-ups, biases,
activations and what is done once a signal are not counted: they are a hundredth of the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from wavenet.config import WaveNetConfig


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of a `WaveNet`.

    Attributes:
        name: `global condition` and `local condition` if there are such, `input`, `block 1` and so
            on, or `head`.
        dilation: Samples between taps.
        effective_kernel_size: Samples from first to last tap, both counted.
        receptive_field: Past samples that this layer's output depends on.
        parameters: Numbers stored.
        operations: Floating-point operations a generated sample, two a multiply-add.
    """

    name: str
    dilation: int
    effective_kernel_size: int
    receptive_field: int
    parameters: int
    operations: int


def layer_rows(config: WaveNetConfig) -> list[LayerRow]:
    """Return conditions, first convolution, every block and head, in the order of the signal."""
    return list(_rows(config))


def layer_table(config: WaveNetConfig, sample_rate: int) -> str:
    """Return the layers of a model as a table to print, with totals and the receptive field.

    Args:
        config: Shape of the model.
        sample_rate: Samples a second, in Hz: turns the receptive field into time.
    """
    rows = layer_rows(config)
    lines = [
        ("layer", "dilation", "kernel", "receptive field", "ms", "parameters", "FLOP a sample"),
        *(_cells(row, sample_rate) for row in rows),
        (
            "total",
            *[""] * 4,
            f"{sum(row.parameters for row in rows):,}",
            f"{sum(row.operations for row in rows):,}",
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    printed = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in lines
    ]
    rule = "-" * len(printed[0])
    seconds = config.receptive_field_seconds(sample_rate)
    field = f"receptive field: {config.receptive_field:,} samples, {seconds:.3g} s"
    caption = f"{field} at {sample_rate:,} Hz"
    return "\n".join([printed[0], rule, *printed[1:-1], rule, printed[-1], caption])


def _rows(config: WaveNetConfig) -> Iterator[LayerRow]:
    residual, gate, skip = config.residual_channels, config.gate_channels, config.skip_channels
    yield from _condition_rows(config)
    seen = config.input_kernel_size
    embedded = config.input_type == "embedding"
    yield LayerRow(
        name="input",
        dilation=1,
        effective_kernel_size=seen,
        receptive_field=seen,
        parameters=(
            seen * config.quantization_channels * residual + config.bias * residual
            if embedded
            else _stored(config, seen, residual)
        ),
        operations=0 if embedded else 2 * seen * residual,
    )
    last = len(config.dilations)
    pairs = zip(config.dilations, config.effective_kernel_sizes, strict=True)
    for number, (dilation, size) in enumerate(pairs, start=1):
        seen += size - 1
        # (inputs of one output, outputs) of each convolution; nothing reads the last residual
        shapes = [(config.kernel_size * residual, gate), (gate // 2, skip)]
        shapes += [(gate // 2, residual)] if number < last else []
        condition = config.conditioning_channels
        yield LayerRow(
            name=f"block {number}",
            dilation=dilation,
            effective_kernel_size=size,
            receptive_field=seen,
            parameters=sum(_stored(config, *shape) for shape in shapes)
            + (gate * (condition + config.weight_norm) if condition else 0),
            operations=sum(2 * inputs * outputs for inputs, outputs in shapes)
            + 2 * condition * gate,
        )
    outputs = config.quantization_channels
    if (
        config.output_distribution != "categorical"
    ):  # mean and scale a density, and its weight if there are two
        outputs = 3 * config.num_mixtures if config.num_mixtures > 1 else 2
    shapes = [(skip, config.head_channels), (config.head_channels, outputs)]
    yield LayerRow(
        name="head",
        dilation=1,
        effective_kernel_size=1,
        receptive_field=seen,
        parameters=sum(_stored(config, *shape) for shape in shapes),
        operations=sum(2 * inputs * outputs for inputs, outputs in shapes),
    )


def _condition_rows(config: WaveNetConfig) -> Iterator[LayerRow]:
    """Yield what becomes of speakers and vectors, and of frames; they see no samples."""
    said = {"dilation": 1, "effective_kernel_size": 0, "receptive_field": 0}
    width, vector = config.global_channels, config.global_in_channels
    if config.has_global_conditioning:
        speakers = (config.num_speakers + 1) * width if config.num_speakers else 0  # one is unknown
        vectors = (vector + 2) * width if vector else 0  # weights, biases, and what stands for none
        yield LayerRow(name="global condition", parameters=speakers + vectors, operations=0, **said)
    local = config.local
    if local is None:
        return
    width = local.channels
    shapes = [(local.in_channels * (local.kernel_size + local.lookahead), width)]
    for number in range(1, len(local.context_dilations) + 1):
        shapes += [(2 * width, 2 * width), (width, width)]
        shapes += [(width, width)] if number < len(local.context_dilations) else []
    parameters = sum(outputs * (inputs + 1 + config.weight_norm) for inputs, outputs in shapes)
    operations = sum(2 * inputs * outputs for inputs, outputs in shapes) / local.hop_length
    rate = 1 / local.hop_length  # of a stage's input, as a share of the samples'
    for scale in local.upsample_scales:
        rate *= scale
        if local.upsample == "nearest":
            parameters += 2 * scale + 1 + config.weight_norm
            operations += 2 * (2 * scale + 1) * width * rate
        elif local.upsample == "transposed":
            parameters += 2 * scale * width * width + width
            operations += 2 * 2 * width * width * rate
    yield LayerRow(
        name="local condition", parameters=parameters, operations=round(operations), **said
    )


def _stored(config: WaveNetConfig, inputs: int, outputs: int) -> int:
    """Return the numbers that a convolution stores: weights, biases, lengths of weight norm."""
    return outputs * (inputs + config.bias + config.weight_norm)


def _cells(row: LayerRow, sample_rate: int) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.dilation:,}",
        f"{row.effective_kernel_size:,}",
        f"{row.receptive_field:,}",
        f"{1000 * row.receptive_field / sample_rate:,.2f}",
        f"{row.parameters:,}",
        f"{row.operations:,}",
    )
