"""Classify sequences with a temporal convolutional network (TCN): a stack without skips.

The task is that of temporal order (Hochreiter and Schmidhuber 1997): a sequence of random symbols
holds an X or a Y in its first and in its last third; the classes are XX, XY, YX and YY. The last
output must depend on nearly all of the sequence. TCN: Bai et al. 2018, arXiv:1803.01271.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules import ResidualStack

DISTRACTORS, X, Y = 4, 4, 5  # symbols 0 to 3 mean nothing


def draw_batch(batch_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Return sequences of one-hot symbols, `(B, 6, T)`, and their classes, `(B,)`."""
    symbols = torch.randint(DISTRACTORS, (batch_size, length))
    first, second = torch.randint(2, (2, batch_size))
    rows, third = torch.arange(batch_size), length // 3
    symbols[rows, torch.randint(third, (batch_size,))] = X + first
    symbols[rows, length - 1 - torch.randint(third, (batch_size,))] = X + second
    return F.one_hot(symbols, Y + 1).transpose(1, 2).float(), 2 * first + second


class TCN(nn.Module):
    """Scores of the classes, `(B, 4)`, of sequences `(B, 6, T)` up to a length."""

    def __init__(self, length: int, channels: int = 24) -> None:
        super().__init__()
        dilations = [1]
        while 1 + 2 * sum(dilations) < length:  # receptive field with 3 taps
            dilations.append(2 * dilations[-1])
        self.stack = ResidualStack(
            dilations,
            channels,
            channels,
            0,
            kernel_size=3,
            in_channels=Y + 1,
            gate="relu",
            dropout=0.05,
            dropout_at="gate",
            output="residual",
        )
        self.linear = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.stack(x)[..., -1])
        return scores


def main(steps: int, length: int) -> None:
    """Train, then print the accuracy on sequences that were not seen."""
    torch.manual_seed(0)
    model = TCN(length)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(steps):
        x, classes = draw_batch(32, length)
        loss = F.cross_entropy(model(x), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    x, classes = draw_batch(500, length)
    with torch.no_grad():
        accuracy = (model.eval()(x).argmax(dim=1) == classes).float().mean().item()
    print(f"accuracy: {accuracy:.1%} (chance: 25.0%)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classify sequences with a TCN.")
    for key, number in (("steps", 300), ("length", 200)):
        parser.add_argument(key, nargs="?", type=int, default=number, help=f"{number} if absent")
    main(**vars(parser.parse_args()))
