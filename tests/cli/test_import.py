"""`wavenet-import`: what it prints and writes, and what it refuses."""

import json
import shlex
from pathlib import Path

import numpy as np
import torch

import wavenet
from tests.commands import ROOT, Done, Run

GOLDEN = ROOT / "tests" / "interop" / "golden"


def import_r9y9(run: Run, *arguments: str) -> Done:
    hparams = json.loads((GOLDEN / "r9y9_mol.json").read_text())["config"]
    Path("hparams.json").write_text(json.dumps(hparams))
    source = f"source={GOLDEN / 'r9y9_mol.pth'}"
    return run("import", source, "config=hparams.json", "output=models/mol", *arguments)


def test_an_import_ends_with_the_command_to_generate(run: Run) -> None:
    done = run(
        "import", f"source={GOLDEN / 'vh_snapshot'}", "sample_rate=8000", "output=models/its name"
    )
    assert done.returncode == 0, done.stderr
    *lines, command = done.stdout.splitlines()
    verb, *words = shlex.split(command)

    generated = run(verb.removeprefix("wavenet-"), *words, "backend=reference", "seconds=0.01")

    assert "vincentherrmann/pytorch-wavenet, 2017-12: vh_snapshot" in done.stdout
    assert any(line.startswith("note: ") for line in lines)
    assert generated.returncode == 0, generated.stderr
    assert Path("generated.wav").exists()


def test_an_import_keeps_statistics_license_and_steps(run: Run) -> None:
    np.save("mean.npy", np.arange(5.0))
    np.save("std.npy", np.full(5, 2.0))

    done = import_r9y9(run, "mean=mean.npy", "std=std.npy", "license=MIT")

    assert done.returncode == 0, done.stderr
    _, audio, training = wavenet.load("models/mol")
    assert audio.mel is not None
    assert audio.mel.mean == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert audio.mel.std == (2.0,) * 5
    assert (training.license, training.steps) == ("MIT", 1000)
    assert training.base_model == "r9y9/wavenet_vocoder, master: r9y9_mol.pth"
    assert "input=speech.wav" in done.stdout.splitlines()[-1]


def test_an_existing_output_is_kept_unless_overwritten(run: Run) -> None:
    import_r9y9(run)
    before = Path("models/mol/config.json").read_bytes()

    again = import_r9y9(run, "license=MIT")
    unchanged = Path("models/mol/config.json").read_bytes() == before
    replaced = import_r9y9(run, "license=MIT", "overwrite=true")

    assert again.returncode == 2
    assert "models/mol exists: choose another output, or overwrite=true" in again.stderr
    assert unchanged
    assert replaced.returncode == 0
    assert wavenet.load("models/mol").training.license == "MIT"


def test_a_damaged_file_and_a_missing_config_leave_nothing(run: Run) -> None:
    Path("cut.pth").write_bytes((GOLDEN / "r9y9_mol.pth").read_bytes()[:20000])
    foreign = {"conv_layers.0.conv1x1_aux.weight": torch.zeros(1)}
    torch.save({"model": {"generator": foreign}}, "pwg.pkl")

    damaged = run("import", "source=cut.pth", "output=models/a")
    no_config = run("import", f"source={GOLDEN / 'r9y9_mol.pth'}", "output=models/a")
    no_rate = run("import", f"source={GOLDEN / 'vh_snapshot'}", "output=models/a")
    other = run("import", "source=pwg.pkl", "output=models/a")
    typing = run("import", "source=cut.pth", "output=models/a", "samplerate=1")

    assert (damaged.returncode, other.returncode) == (4, 4)
    assert "is a ParallelWaveGAN generator" in other.stderr
    assert (no_config.returncode, no_rate.returncode, typing.returncode) == (2, 2, 2)
    assert "hparams.json" in no_config.stderr
    assert "add sample_rate=HZ" in no_rate.stderr
    assert "did you mean 'sample_rate'?" in typing.stderr
    assert not Path("models").exists()


def test_an_imported_model_takes_frames_of_its_project(run: Run) -> None:
    import_r9y9(run)
    np.save("frames.npy", np.zeros((5, 4), np.float32))

    words = ("checkpoint=models/mol", "input=frames.npy", "mel_preset=model", "backend=reference")
    done = run("generate", *words)

    assert done.returncode == 0, done.stderr
