"""Denoise speech with a non-causal stack: train on the demo's voice plus noise, denoise in chunks.

    python examples/denoiser.py [STEPS] [FOLDER]    # 300 steps take a minute or two

Every 20th recording is held out. The idea is that of Rethage et al. 2018 (arXiv:1706.07162), the
loss at several resolutions that of Parallel WaveGAN (Yamamoto et al. 2020, arXiv:1910.11480).
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.data.audio import read_samples
from wavenet.modules import ResidualStack

DEMO = Path(__file__).parents[1] / "recipes" / "demo" / "audio"
RESOLUTIONS = ((128, 32), (256, 64), (512, 128))  # window and hop, in samples
SEGMENT, CHUNK, INPUT_SNR_DB = 4096, 800, 5.0  # samples, samples, decibels


def stft_loss(found: Tensor, clean: Tensor) -> Tensor:
    """Return spectral convergence plus log magnitude distance, a mean over resolutions."""
    losses = []
    for size, hop in RESOLUTIONS:
        window = torch.hann_window(size)
        one, other = (
            torch.stft(x, size, hop, window=window, return_complex=True).abs().clamp(min=1e-4)
            for x in (found, clean)
        )
        losses.append((one - other).norm() / other.norm() + F.l1_loss(one.log(), other.log()))
    return torch.stack(losses).mean()


def snr_db(clean: Tensor, found: Tensor) -> float:
    """Return the signal-to-noise ratio of `found`."""
    return float(10 * torch.log10(clean.square().sum() / (found - clean).square().sum()))


def main(steps: int, folder: Path) -> None:
    """Train, then denoise the recordings that were held out, chunk by chunk."""
    torch.manual_seed(0)
    clips = [torch.from_numpy(read_samples(path)[:, 0]) for path in sorted(folder.iterdir())]
    held_out = torch.cat(clips[::20])
    voice = torch.cat([clip for index, clip in enumerate(clips) if index % 20])
    deviation = voice.std() * 10 ** (-INPUT_SNR_DB / 20)
    stack = ResidualStack([2**i for i in range(8)], 32, 64, 32, 3, in_channels=1, causal=False)
    head = nn.Sequential(nn.ReLU(), nn.Conv1d(32, 32, 1), nn.ReLU(), nn.Conv1d(32, 1, 1))
    optimizer = torch.optim.Adam([*stack.parameters(), *head.parameters()], lr=2e-3)
    for step in range(steps):
        starts = torch.randint(len(voice) - SEGMENT, (4,)).tolist()
        clean = torch.stack([voice[start : start + SEGMENT] for start in starts])
        noisy = clean + deviation * torch.randn_like(clean)
        denoised = noisy + head(stack(noisy.unsqueeze(1))).squeeze(1)
        loss = 10 * F.l1_loss(denoised, clean) + stft_loss(denoised, clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    noisy = held_out + deviation * torch.randn_like(held_out)
    stream = stack.eval().stream()
    state = stream.new_state(batch_size=1)
    chunks = noisy.view(1, 1, -1).split(CHUNK, dim=-1)
    skips: list[Any] = [*(stream.push(chunk, state) for chunk in chunks), stream.flush(state)]
    with torch.no_grad():
        denoised = noisy + head(torch.cat(skips, dim=-1)).flatten()
    before, after = snr_db(held_out, noisy), snr_db(held_out, denoised)
    print(f"SNR: {before:.1f} dB, denoised {after:.1f} dB, gain {after - before:.1f} dB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Denoise speech with a non-causal stack.")
    parser.add_argument("steps", nargs="?", type=int, default=300, help="updates, 300 if absent")
    help_of_folder = "mono recordings of one sample rate; the demo's voice at 8 kHz if absent"
    parser.add_argument("folder", nargs="?", type=Path, default=DEMO, help=help_of_folder)
    main(**vars(parser.parse_args()))
