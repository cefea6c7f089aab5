"""VITS's `WN`: same call, same names of weights, same numbers.

VITS and its family (Piper, RVC, GPT-SoVITS, so-vits-svc) each have a copy of this module. It is a
non-causal `ResidualStack` with a mask, one conditioning for all blocks, dropout of the gate's
output, and one 1x1 convolution for residual and skip output of a block:

    x, o = x, 0
    for each block i:
        y = in_layers[i](x) + block i's part of cond_layer(g)
        r, s = halves of res_skip_layers[i](dropout(tanh(half of y) * sigmoid(other half)))
        x, o = (x + r) * mask, o + s
    output: o * mask

The last block has no `r`. It runs block by block: the fused stack (`wn_stack`), which computes `r`
and `s` apart, is no faster on a CPU.

Kim et al. 2021 (arXiv:2106.06103), section 2.5; Prenger et al. 2019 (arXiv:1811.00002).
"""

from typing import Any

import torch
from torch import Tensor, nn

from wavenet.modules.checks import check_signal
from wavenet.modules.compat.weight_norm import fit_entries, split_weight
from wavenet.modules.fusable import is_transformed
from wavenet.modules.residual_block import tanh_sigmoid


class WeightNormConv1d(nn.Conv1d):
    """Convolution to both sides with `weight = g * v / |v|`, one `g` per output channel.

    Its parameters are `bias`, `weight_g` and `weight_v`, as `torch.nn.utils.weight_norm` names
    them; after `remove_weight_norm`, `bias` and `weight`. It loads weights of every form, and
    unlike PyTorch's two it can be pickled and copied at any time.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel_size: Taps, odd.
        dilation: Samples from one tap to the next.

    Shape:
        - Input: `(B, in_channels, T)`
        - Output: `(B, out_channels, T)`
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        padding = (kernel_size - 1) // 2 * dilation
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
        weight = self._parameters.pop("weight")
        assert weight is not None
        self.weight_g, self.weight_v = map(nn.Parameter, split_weight(weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.current_weight(), self.bias)
        return y

    def current_weight(self) -> Tensor:
        """Return the weight, `(out_channels, in_channels, kernel_size)`."""
        if "weight" in self._parameters:
            return self.weight
        if is_transformed(self.weight_v):  # torch's function has no vmap and no forward derivative
            norm = torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True)
            weight: Tensor = self.weight_v * (self.weight_g / norm)
            return weight
        return torch._weight_norm(self.weight_v, self.weight_g, 0)

    def remove_weight_norm(self) -> None:
        """Replace `weight_g` and `weight_v` by `weight`, once and for all."""
        weight = self.current_weight()
        is_trained = any(p.requires_grad for n, p in self.named_parameters() if n != "bias")
        self._parameters.pop("weight_g", None)
        self._parameters.pop("weight_v", None)
        self.weight = nn.Parameter(weight.detach(), requires_grad=is_trained)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any
    ) -> None:
        own = {name: state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
        wanted = {prefix + name: tensor for name, tensor in self._parameters.items()}
        state_dict.update(fit_entries(own, wanted))
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


class WN(nn.Module):
    """VITS's non-causal stack of gated blocks, to be used in place of the original.

    Checkpoints load, optimizer states included: the parameters have VITS's names, shapes and order.
    Weights of all forms of weight norm load, in a larger model too (`load_state_dict`).

    Args:
        hidden_channels: Width from block to block, and of the output.
        kernel_size: Taps, odd.
        dilation_rate: Block `i` has dilation `dilation_rate**i`.
        n_layers: Number of blocks.
        gin_channels: Width of the conditioning; 0 for none.
        p_dropout: Probability of dropping a value of a gate's output in training.

    Shape:
        - Input: `(B, hidden_channels, T)`; `x_mask` `(B, 1, T)`, 1 for samples that exist and 0 for
          padding; `g` `(B, gin_channels, 1)` or `(B, gin_channels, T)`, such as a speaker's
          embedding; a mask or `g` of batch 1 is for all items
        - Output: `(B, hidden_channels, T)`, 0 where the mask is

    Raises:
        ValueError: `kernel_size` is even or `n_layers` below 1; the input, the mask or `g` has
            another shape, or `g` is given to a module without `gin_channels`. As in VITS, `g` may
            be left out.
    """

    def __init__(
        self,
        hidden_channels: int,
        kernel_size: int,
        dilation_rate: int,
        n_layers: int,
        gin_channels: int = 0,
        p_dropout: float = 0,
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"n_layers must be 1 or more, got {n_layers}")
        self.hidden_channels = hidden_channels
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate
        self.n_layers = n_layers
        self.gin_channels = gin_channels
        self.p_dropout = p_dropout
        width, last = hidden_channels, n_layers - 1
        cond_layer = None  # made first and registered last, as in VITS: seeds give the same weights
        if gin_channels:
            cond_layer = WeightNormConv1d(gin_channels, 2 * width * n_layers, 1)
        self.in_layers = nn.ModuleList()
        self.res_skip_layers = nn.ModuleList()
        for index in range(n_layers):
            in_layer = WeightNormConv1d(width, 2 * width, kernel_size, dilation_rate**index)
            self.in_layers.append(in_layer)
            outputs = width if index == last else 2 * width
            self.res_skip_layers.append(WeightNormConv1d(width, outputs, 1))
        self.drop = nn.Dropout(p_dropout)
        self.cond_layer = cond_layer

    def forward(
        self, x: Tensor, x_mask: Tensor | None, g: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Return the output; as in VITS, other arguments by name are accepted and not used."""
        self._check(x, x_mask, g)
        x_mask = None if x_mask is None else x_mask.to(x.dtype)
        parts: tuple[Tensor | None, ...] = (None,) * self.n_layers
        if g is not None and self.cond_layer is not None:
            parts = self.cond_layer(g).chunk(self.n_layers, dim=1)
        skips: Tensor | None = None
        layers = zip(self.in_layers, parts, self.res_skip_layers, strict=True)
        for index, (in_layer, part, res_skip_layer) in enumerate(layers):
            y = in_layer(x)
            y = res_skip_layer(self.drop(tanh_sigmoid(y if part is None else y + part)))
            if index < self.n_layers - 1:
                residual, y = y.chunk(2, dim=1)
                x = x + residual if x_mask is None else (x + residual) * x_mask
            skips = y.to(x.dtype) if skips is None else skips + y  # not autocast's precision
        assert skips is not None
        return skips if x_mask is None else skips * x_mask

    def remove_weight_norm(self) -> None:
        """Compute all weights once and for all, for inference."""
        for module in self.modules():
            if isinstance(module, WeightNormConv1d):
                module.remove_weight_norm()

    def _check(self, x: Tensor, x_mask: Tensor | None, g: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[1] != self.hidden_channels:
            raise ValueError(f"x must be (B, {self.hidden_channels}, T), got {tuple(x.shape)}")
        if x_mask is not None:
            check_signal("x_mask", x_mask, 1, _items(x, x_mask))
        if g is not None:
            check_signal("g", g, self.gin_channels or None, _items(x, g))


def _items(x: Tensor, other: Tensor) -> Tensor:
    """Return the items of `x` that `other` must have: one is for all."""
    return x[:1] if other.dim() == 3 and other.shape[0] == 1 else x
