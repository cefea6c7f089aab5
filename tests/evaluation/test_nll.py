import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet.checkpoint import Checkpoint, TrainingInfo
from wavenet.config import AudioConfig, LocalConfig, MelConfig, WaveNetConfig
from wavenet.data.dataset import ClipReader, SequentialSegments, read_clip, stack
from wavenet.data.manifest import read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.held_out import held_out_split
from wavenet.evaluation.nll import make_clip_reader, total_nll
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import bits_text
from wavenet.features.frames import Features
from wavenet.model import WaveNet

CONFIG = WaveNetConfig(
    quantization_channels=16,
    dilations=(1, 2, 4),
    residual_channels=4,
    gate_channels=6,
    skip_channels=8,
    head_channels=8,
    dropout=0.5,
)


@pytest.fixture
def folder(recordings: Path, tmp_path: Path) -> Path:
    plan = make_plan(recordings, tmp_path / "prepared", PrepareOptions(sample_rate=8000))
    prepare_clips(plan)
    return tmp_path / "prepared"


@pytest.mark.parametrize("window", [700, 6000])
def test_bits_over_windows_equal_those_of_complete_clips(folder: Path, window: int) -> None:
    model = WaveNet(CONFIG).eval()
    clips = read_manifest(folder)
    windows = SequentialSegments(
        ClipReader(folder), clips, segment_length=window, context=CONFIG.receptive_field
    )
    with torch.no_grad():
        nll = [model.nll(torch.from_numpy(read_clip(folder, clip))[None]) for clip in clips]

    bits = total_nll(model, windows).bits_per_sample

    assert bits == pytest.approx(float(torch.cat(nll, dim=1).mean()) / math.log(2), rel=1e-5)


def test_segments_have_the_frames_that_centered_upsampling_sees(folder: Path) -> None:
    mel = MelConfig(sample_rate=8000, n_fft=256, hop_length=80, win_length=256, n_mels=9, f_max=4e3)
    local = LocalConfig(in_channels=9, upsample_scales=(4, 20), upsample="centered", lookahead=1)
    config, audio = dataclasses.replace(CONFIG, local=local), AudioConfig(sample_rate=8000, mel=mel)
    reader, model = make_clip_reader(config, audio, folder), WaveNet(config).eval()
    clip, features = read_manifest(folder)[0], Features(audio)

    segment, longer = (stack([reader.read(clip, 0, length)]) for length in (1600, 3200))

    assert features(segment)["local"].shape == (1, 9, 20 + 1 + 2)
    params = [model(item["waveform"], **features(item))[..., :1600] for item in (segment, longer)]
    torch.testing.assert_close(*params)


def test_evaluation_uses_no_dropout_and_keeps_the_random_state(folder: Path) -> None:
    model = WaveNet(CONFIG).train()
    windows = SequentialSegments(
        ClipReader(folder),
        read_manifest(folder),
        segment_length=6000,
        context=CONFIG.receptive_field,
    )
    random_state = torch.get_rng_state()

    assert total_nll(model, windows) == total_nll(model, windows)

    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("companding", ["mu-law", "mu-law-n-grid", "linear"])
def test_bits_per_sample_name_the_model_first_and_every_baseline(
    folder: Path, companding: Any
) -> None:
    clips = held_out_split(read_manifest(folder))
    model = WaveNet(dataclasses.replace(CONFIG, companding=companding))
    loaded = Checkpoint(model, AudioConfig(sample_rate=8000), TrainingInfo())
    options = EvaluationOptions(sample_seconds=0)

    evaluation = Evaluator(loaded, folder, clips, options).evaluate()

    assert next(iter(evaluation.bits_per_sample)) == "model"
    assert evaluation.bits_per_sample["uniform"] == 4.0
    assert len(bits_text(evaluation.bits_per_sample).splitlines()) == 6
    assert evaluation.facts["Output distribution"] == f"16 {companding} classes"
