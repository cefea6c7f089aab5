"""The weights of a standard `WaveNet` as the operands of the step.

`sigmoid(g) = (tanh(g / 2) + 1) / 2`, so one tanh computes both halves of a gate: the factor inside
is in the weights of the second half, the factor outside in those of the residual and the skip.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.model import WaveNet
from wavenet.modules import CausalEmbedding, ResidualBlock


@dataclass(frozen=True)
class StepWeights:
    """Operands of the step; `x @ weight` in all products.

    Letters: `L` blocks, `K` taps of a block, `R` residual, `2H` gate, `S` skip and `A` head
    channels, `P` parameters; `I` taps and `G` signals of the input layer, `N` classes.

    Attributes:
        input_table: Embedding: a row per tap, newest first, signal and class, `(I * G * (N + 1),
            R)`; row `N` of each is zero, for silence. Scalar: a row per tap and signal.
        first_rows: Embedding: first row of each tap and signal, `(I, G, 1)`.
        class_of_code: Class of each code and of silence, where several codes share a class.
        input_bias: Of the input layer, `(R,)`; zero for an embedding, whose newest tap has it.
        values: Value of each code, for scalar input; `None` for an embedding.
        past: Past taps of the dilated convolutions, oldest first, `(L, (K - 1) * R, 2H)`; `None`
            for `K` of 1.
        current: Their current taps, `(R, 2H)` each.
        gate_bias: `(L, 1, 2H)`.
        local: Projections of local conditioning, `(L, C, 2H)`, if there is any.
        shared: Projections of global conditioning, `(L, C, 2H)`, if there is any.
        residual: Residual convolutions of all blocks but the last, `(H, R)` each.
        residual_bias: `(R,)` each.
        residual_scale: Factor on the input in the residual sum.
        skip: Skip convolutions, `(L * H, S)`.
        skip_bias: Sum of their biases, `(S,)`.
        hidden: `(S, A)`.
        hidden_bias: `(A,)`.
        output: `(A, P)`.
        output_bias: `(P,)`.
    """

    input_table: Tensor
    first_rows: Tensor | None
    class_of_code: Tensor | None
    input_bias: Tensor
    values: Tensor | None
    past: Tensor | None
    current: list[Tensor]
    gate_bias: Tensor
    local: Tensor | None
    shared: Tensor | None
    residual: list[Tensor]
    residual_bias: list[Tensor]
    residual_scale: float
    skip: Tensor
    skip_bias: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: Tensor


@torch.no_grad()
def pack_weights(model: WaveNet) -> StepWeights:
    """Return the operands for a model without weight norm, in its dtype and on its device."""
    blocks = [block for block in model.stack.blocks if isinstance(block, ResidualBlock)]
    skips = [block.skip_conv for block in blocks if block.skip_conv is not None]
    residuals = [block.residual_conv for block in blocks if block.residual_conv is not None]
    scale, skip_scale = model.config.residual_scale, model.stack.skip_scale
    taps = [_halved(block.conv.weight) for block in blocks]  # (2H, R, K), oldest tap first
    past = None
    if model.config.kernel_size > 1:
        past = torch.stack([tap[..., :-1].permute(2, 1, 0).flatten(0, 1) for tap in taps])
    local, shared = _conditioning(model, blocks)
    head = model.head
    return StepWeights(
        **input_layer(model),
        past=past,
        current=[tap[..., -1].T.contiguous() for tap in taps],
        gate_bias=torch.stack([_halved(_bias(block.conv)) for block in blocks]).unsqueeze(1),
        local=local,
        shared=shared,
        residual=[_matrix(conv) * (scale / 2) for conv in residuals],
        residual_bias=[_bias(conv) * scale for conv in residuals],
        residual_scale=scale,
        skip=torch.cat([_matrix(conv) for conv in skips]) * (skip_scale / 2),
        skip_bias=torch.stack([_bias(conv) for conv in skips]).sum(dim=0) * skip_scale,
        hidden=_matrix(head.hidden),
        hidden_bias=_bias(head.hidden),
        output=_matrix(head.output),
        output_bias=_bias(head.output),
    )


def input_layer(model: WaveNet) -> dict[str, Any]:
    """Return the operands of the input layer, by name."""
    layer, distribution = model.input, model.distribution
    if not isinstance(layer, CausalEmbedding):
        codes = torch.arange(model.config.quantization_channels)
        table = layer.weight.permute(2, 1, 0).flip(0)  # (I, G, R)
        return {
            "input_table": table.flatten(0, 1),
            "first_rows": None,
            "class_of_code": None,
            "input_bias": _bias(layer),
            "values": distribution.decode(codes, layer.weight.dtype).to(layer.weight.device),
        }
    signals, classes = layer.num_signals, layer.class_of_code
    taps, _, width = layer.weight.shape
    tables = layer.weight.view(taps, signals, -1, width).flip(0)  # (I, G, N, R)
    num_rows = tables.shape[2] + 1
    tables = nn.functional.pad(tables, (0, 0, 0, 1))
    if layer.bias is not None:
        tables[0, 0] += layer.bias
    first = torch.arange(taps * signals).view(taps, signals, 1) * num_rows
    return {
        "input_table": tables.flatten(0, 2),
        "first_rows": first.to(layer.weight.device),
        "class_of_code": None
        if classes is None
        else nn.functional.pad(classes, (0, 1), value=num_rows - 1),
        "input_bias": layer.weight.new_zeros(width),
        "values": None,
    }


def _conditioning(
    model: WaveNet, blocks: list[ResidualBlock]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the projections of local and of global conditioning."""
    convs = [block.conditioning_conv for block in blocks if block.conditioning_conv is not None]
    if not convs:
        return None, None
    width = 0 if model.config.local is None else model.config.local.channels
    weights = torch.stack([_halved(conv.weight[..., 0]).T for conv in convs])
    local, shared = weights[:, :width].contiguous(), weights[:, width:].contiguous()
    return local if local.shape[1] else None, shared if shared.shape[1] else None


def _halved(x: Tensor) -> Tensor:
    """Return what a gate adds up, `(2H, ...)`, with its second half divided by 2."""
    tanh, sigmoid = x.chunk(2)
    return torch.cat([tanh, sigmoid / 2])


def _matrix(conv: nn.Conv1d) -> Tensor:
    return conv.weight[..., 0].T.contiguous()


def _bias(conv: nn.Conv1d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.clone()
