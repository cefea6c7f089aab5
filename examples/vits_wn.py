"""Use our `WN` in the code of VITS: an old checkpoint in, the same numbers out.

The checkpoint is made here as VITS makes it, with PyTorch's older weight norm (`weight_g` and
`weight_v`), and the module of VITS is written out as its formula, to compare with.

VITS: Kim et al. 2021, arXiv:2106.06103.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.modules.compat import WN, load_weights

HIDDEN, KERNEL_SIZE, DILATION_RATE, LAYERS, SPEAKER = 16, 5, 1, 4, 8


def make_checkpoint() -> dict[str, Tensor]:
    """Return the weights of a posterior encoder's WN, by VITS's names, among a model's others."""
    shapes = {"cond_layer": (2 * HIDDEN * LAYERS, SPEAKER, 1)}
    for i in range(LAYERS):
        shapes[f"in_layers.{i}"] = (2 * HIDDEN, HIDDEN, KERNEL_SIZE)
        shapes[f"res_skip_layers.{i}"] = (HIDDEN * (2 if i < LAYERS - 1 else 1), HIDDEN, 1)
    checkpoint = {"enc_q.proj.weight": torch.randn(2 * HIDDEN, HIDDEN, 1)}
    for name, shape in shapes.items():
        checkpoint[f"enc_q.enc.{name}.bias"] = 0.1 * torch.randn(shape[0])
        checkpoint[f"enc_q.enc.{name}.weight_g"] = 1 + 0.1 * torch.rand(shape[0], 1, 1)
        checkpoint[f"enc_q.enc.{name}.weight_v"] = torch.randn(shape)
    return checkpoint


def formula(checkpoint: dict[str, Tensor], x: Tensor, mask: Tensor, g: Tensor) -> Tensor:
    """Return what VITS computes, layer by layer."""

    def conv(name: str, signal: Tensor) -> Tensor:
        bias, gain, v = (
            checkpoint[f"enc_q.enc.{name}.{part}"] for part in ("bias", "weight_g", "weight_v")
        )
        weight = gain * v / v.norm(dim=(1, 2), keepdim=True)
        return F.conv1d(signal, weight, bias, padding=v.shape[2] // 2)

    output = torch.zeros_like(x)
    conditioning = conv("cond_layer", g).chunk(LAYERS, dim=1)
    for i in range(LAYERS):
        tanh, sigmoid = (conv(f"in_layers.{i}", x) + conditioning[i]).chunk(2, dim=1)
        y = conv(f"res_skip_layers.{i}", tanh.tanh() * sigmoid.sigmoid())
        if i < LAYERS - 1:
            x = (x + y[:, :HIDDEN]) * mask
        output = output + y[:, -HIDDEN:]
    return output * mask


def main() -> None:
    """Load, compare, train one step, remove weight norm, and compare again."""
    torch.manual_seed(0)
    checkpoint = make_checkpoint()
    wn = WN(HIDDEN, KERNEL_SIZE, DILATION_RATE, LAYERS, gin_channels=SPEAKER)  # VITS's call
    load_weights(wn, checkpoint, prefix="enc_q.enc.")
    mask = (torch.arange(50) < torch.tensor([[[50]], [[31]]])).float()
    x, g = torch.randn(2, HIDDEN, 50) * mask, torch.randn(2, SPEAKER, 1)

    difference = (wn(x, mask, g=g) - formula(checkpoint, x, mask, g)).abs().max()
    print(f"largest difference from VITS's formula: {difference:.1e}")

    optimizer = torch.optim.AdamW(wn.parameters(), lr=1e-3)
    loss = wn(x, mask, g=g).square().mean()
    loss.backward()
    optimizer.step()
    trained = wn(x, mask, g=g)
    print(f"loss: {loss:.4f}, then {trained.square().mean():.4f}")

    wn.remove_weight_norm()
    print(f"largest difference without weight norm: {(wn(x, mask, g=g) - trained).abs().max():.1e}")


if __name__ == "__main__":
    main()
