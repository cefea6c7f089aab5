"""How much memory an import takes: a checkpoint of 100 MB as r9y9/wavenet_vocoder writes it.

    python -m tests.interop.memory [--megabytes 100] [--optimizer]

Each measurement is a process of its own. Peaks are above that of the interpreter with everything
imported, in sizes of the file and in MB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HPARAMS: dict[str, Any] = {
    "stacks": 4,
    "sample_rate": 22050,
    "hop_size": 256,
    "num_mels": 80,
    "input_type": "raw",
    "cin_pad": 2,
    "output_distribution": "Logistic",
}
LAYERS, WIDTH, GATE, SKIPS, BANDS, SCALES = 24, 512, 512, 256, 80, (4, 4, 4, 4)
MB = 1_000_000


def make_checkpoint(megabytes: float, layers: int = LAYERS) -> dict[str, Any]:
    """Return a state dict with random weights, its blocks' widths such that it has this size."""
    import torch

    scale = (megabytes / 99.6) ** 0.5
    width, gate, skips = (round(size * scale / 2) * 2 for size in (WIDTH, GATE, SKIPS))
    shapes = {"first_conv": (width, 1, 1)}
    for index in range(layers):
        block = f"conv_layers.{index}"
        shapes |= {
            f"{block}.conv": (gate, width, 3),
            f"{block}.conv1x1_out": (width, gate // 2, 1),
            f"{block}.conv1x1_skip": (skips, gate // 2, 1),
            f"{block}.conv1x1c": (gate, BANDS, 1),
        }
    shapes |= {"last_conv_layers.1": (skips, skips, 1), "last_conv_layers.3": (30, skips, 1)}
    chance = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight_v"] = torch.randn(shape, generator=chance)
        weights[f"{name}.weight_g"] = torch.rand(shape[0], 1, 1, generator=chance) + 0.5
        if not name.endswith("1x1c"):
            weights[f"{name}.bias"] = torch.randn(shape[0], generator=chance)
    weights["upsample_net.conv_in.weight"] = torch.randn(BANDS, BANDS, 5, generator=chance)
    for stage, size in enumerate(SCALES):
        name = f"upsample_net.upsample.up_layers.{2 * stage + 1}.weight"
        weights[f"{name}_v"] = torch.rand(1, 1, 1, 2 * size + 1, generator=chance)
        weights[f"{name}_g"] = torch.ones(1, 1, 1, 1)
    return {"state_dict": weights, "optimizer": None, "global_step": 1000}


def write(path: Path, megabytes: float, *, legacy: bool, optimizer: bool) -> None:
    """Write the checkpoint; with the optimizer's state it is three times as large."""
    import torch

    contents = make_checkpoint(megabytes)
    if optimizer:
        weights = contents["state_dict"].values()
        state = {i: {"exp_avg": w * 0.1, "exp_avg_sq": w * w} for i, w in enumerate(weights)}
        contents["optimizer"] = {"state": state, "param_groups": []}
    torch.save(contents, path, _use_new_zipfile_serialization=not legacy)


def peak_mb() -> float:
    """Return the largest memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def measure(path: Path) -> None:
    """Import the file in this process and print the peaks of each stage."""
    from wavenet.checkpoint import save
    from wavenet.interop import load

    size, base = path.stat().st_size / MB, peak_mb()
    stages, started = [], time.process_time()
    imported = load(path, config=HPARAMS)
    stages.append(("load", peak_mb()))
    save(imported.model, path.parent / "model", imported.audio, imported.training)
    stages.append(("and save", peak_mb()))
    seconds = time.process_time() - started
    peaks = ", ".join(f"{name} +{at - base:.0f} ({(at - base) / size:.2f})" for name, at in stages)
    print(f"  file {size:.0f} MB, base {base:.0f} MB, {peaks}, {seconds:.1f} s of CPU time")


def measure_directory(path: Path) -> None:
    """Load a model directory in this process and print the peak."""
    from wavenet.checkpoint import load

    size, base = (path / "model.safetensors").stat().st_size / MB, peak_mb()
    started = time.process_time()
    model = load(path).model
    above, seconds = peak_mb() - base, time.process_time() - started
    assert model is not None
    print(
        f"  wavenet.load {size:.0f} MB, base {base:.0f} MB, +{above:.0f} ({above / size:.2f}), "
        f"{seconds:.1f} s of CPU time"
    )


def main() -> None:
    """Measure both forms of file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--optimizer", action="store_true", help="with Adam's state")
    parser.add_argument("--stage", choices=["write", "import", "load"], help="of a child process")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--legacy", action="store_true")
    options = parser.parse_args()
    if options.stage == "write":
        write(options.path, options.megabytes, legacy=options.legacy, optimizer=options.optimizer)
    elif options.stage == "import":
        measure(options.path)
    elif options.stage == "load":
        measure_directory(options.path)
    else:
        run_children(options)


def run_children(options: argparse.Namespace) -> None:
    """Write and measure each form, in processes of their own: a peak never sinks."""
    command = [sys.executable, "-m", "tests.interop.memory", f"--megabytes={options.megabytes}"]
    for form in ("zip", "legacy"):
        print(f"{form}:", flush=True)
        with tempfile.TemporaryDirectory() as name:
            path = f"{name}/checkpoint.pth"
            kind = ["--legacy"] * (form == "legacy") + ["--optimizer"] * options.optimizer
            stages: tuple[tuple[str, str, list[str]], ...]
            stages = (("write", path, kind), ("import", path, []), ("load", f"{name}/model", []))
            for stage, place, more in stages:
                subprocess.run([*command, f"--stage={stage}", f"--path={place}", *more], check=True)


if __name__ == "__main__":
    main()
