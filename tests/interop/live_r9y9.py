"""Live parity with r9y9/wavenet_vocoder v0.1.1, as PyPI has it: its own numbers beside ours.

`write` runs that package in an environment of its own, where it installs and runs with the torch of
today (2.14; it asks for 0.4.1 or later). It builds models with random weights, makes one update of
Adam, saves them as its train.py does, and writes what its `forward` and its `incremental_forward`
compute: teacher-forced, and free running with the random numbers that it drew. `compare` imports
each checkpoint and prints the largest differences of ours.

    python -m venv /tmp/r9y9
    /tmp/r9y9/bin/pip install wavenet-vocoder==0.1.1
    /tmp/r9y9/bin/python tests/interop/live_r9y9.py write /tmp/r9y9/live [CASE ...]
    python tests/interop/live_r9y9.py compare /tmp/r9y9/live [CASE ...]

`write` needs neither this package nor a network. v0.1.1 has no Gaussian
output. Its greedy mode (`quantize=False`) feeds logits back as if they were a sample, which no
other code does; so the free run is the sampled one, `quantize=True`.
"""

import functools
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SMALL: dict[str, Any] = {
    "layers": 6,
    "stacks": 2,
    "residual_channels": 16,
    "gate_channels": 24,
    "skip_out_channels": 20,
    "kernel_size": 3,
    "dropout": 0.05,
}
PRESET = {  # of its presets for LJSpeech, with a quarter of the channels
    "layers": 24,
    "stacks": 4,
    "residual_channels": 128,
    "gate_channels": 128,
    "skip_out_channels": 64,
    "cin_channels": 80,
    "upsample_conditional_features": True,
    "upsample_scales": [4, 4, 4, 4],
}
MULAW, MOL = {"out_channels": 256}, {"out_channels": 30, "scalar_input": True}
FRAMES = {"cin_channels": 5}
UPSAMPLED = FRAMES | {"upsample_conditional_features": True, "upsample_scales": [3, 4]}
SPEAKERS = {"gin_channels": 4, "n_speakers": 3}
CASES: dict[str, dict[str, Any]] = {
    "mulaw": MULAW,
    "mulaw_frames": MULAW | FRAMES,
    "mulaw_upsampled": MULAW | UPSAMPLED,
    "mulaw_speakers": MULAW | SPEAKERS,
    "mulaw_new_skips": MULAW | UPSAMPLED | SPEAKERS | {"legacy": False},
    "mulaw_plain_weights": MULAW | {"weight_normalization": False, "layers": 5, "stacks": 1},
    "mol": MOL,
    "mol_frames": MOL | FRAMES,
    "mol_upsampled": MOL | UPSAMPLED | {"freq_axis_kernel_size": 1},
    "mol_speakers": MOL | UPSAMPLED | SPEAKERS,
    "mol_vector": MOL | {"gin_channels": 4, "use_speaker_embedding": False},
    "logistic": MOL | {"out_channels": 3},
    "preset_mol": MOL | PRESET,
}
HOP, BATCH, LENGTH = 12, 2, 240
LARGE = 256  # samples of a model of the size of a preset
SILENCE = 128  # the class of 0.0
LOG_SCALE_MIN = -7.0
LOWEST = 1e-5  # of the uniforms that it draws
DTYPES = {"float64": torch.float64, "float32": torch.float32}


# ---- write: runs wavenet_vocoder, not this package ----


def write(folder: Path, names: Sequence[str]) -> None:
    """Write a checkpoint, its hparams and its outputs for each case."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        options = CASES[name]
        torch.manual_seed(seed)
        keys = SMALL | options
        model = randomized(keys)
        optimizer = None if "preset" in name else one_update(model, keys)
        contents = {
            "state_dict": model.state_dict(),
            "optimizer": optimizer,
            "global_step": 1,
            "global_epoch": 1,
            "global_test_step": 0,
        }
        torch.save(contents, folder / f"{name}.pth")
        (folder / f"{name}.json").write_text(json.dumps(hparams(keys), indent=1))
        inputs = draw_inputs(keys)
        for precision, dtype in DTYPES.items():
            outputs = run(keys, model.state_dict(), inputs, dtype, seed)
            torch.save(inputs | outputs, folder / f"{name}.{precision}.pt")
        print(name, flush=True)


def hparams(keys: dict[str, Any]) -> dict[str, Any]:
    """Return a preset as its train.py reads it, for the options of a model."""
    scalar = keys.get("scalar_input", False)
    more = {
        "name": "wavenet_vocoder",
        "builder": "wavenet",
        "input_type": "raw" if scalar else "mulaw-quantize",
        "quantize_channels": 65536 if scalar else 256,
        "log_scale_min": LOG_SCALE_MIN,
        "sample_rate": 22050,
        "hop_size": hop_length(keys),
        "num_mels": keys.get("cin_channels", 80),
    }
    left_out = ("scalar_input", "use_speaker_embedding")
    return {key: value for key, value in keys.items() if key not in left_out} | more


def hop_length(keys: dict[str, Any]) -> int:
    scales = keys.get("upsample_scales", [HOP])
    return functools.reduce(lambda a, b: a * b, scales, 1)


def randomized(keys: dict[str, Any]) -> Any:
    """Return a model with random biases and lengths of weight norm, which it starts at 0 and 1."""
    model = importlib.import_module("wavenet_vocoder").WaveNet(**keys)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 1.5))
    return model


def one_update(model: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """Make one update of Adam with dropout, and return the optimizer's state."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs = draw_inputs(keys)
    output = model.train()(shifted(inputs, keys), **conditions(inputs, keys, torch.float32))
    output.square().mean().backward()
    optimizer.step()
    return optimizer.state_dict()


def draw_inputs(keys: dict[str, Any]) -> dict[str, Tensor]:
    """Return a random signal, and frames and a speaker or vector if the model has them."""
    length = LARGE if keys["residual_channels"] > 100 else LENGTH
    size = (1 if length == LARGE else BATCH, length)
    inputs = {}
    if keys.get("scalar_input"):
        codes = torch.randn(size).mul(4000).round().clamp(-32768, 32767)
        inputs["waveform"] = codes / 32768
    else:
        inputs["codes"] = torch.randint(256, size)
    if "cin_channels" in keys:
        inputs["frames"] = torch.rand(size[0], keys["cin_channels"], length // hop_length(keys))
    if "n_speakers" in keys:
        inputs["speaker"] = torch.arange(1, size[0] + 1)
    elif "gin_channels" in keys:
        inputs["vector"] = torch.randn(size[0], keys["gin_channels"])
    return inputs


def shifted(inputs: dict[str, Tensor], keys: dict[str, Any]) -> Tensor:
    """Return what the network sees for each sample, the one before it: `(B, 1 or 256, T)`."""
    if keys.get("scalar_input"):
        return torch.nn.functional.pad(inputs["waveform"], (1, -1)).unsqueeze(1)
    codes = torch.nn.functional.pad(inputs["codes"], (1, -1), value=SILENCE)
    return torch.nn.functional.one_hot(codes, 256).transpose(1, 2).float()


def conditions(
    inputs: dict[str, Tensor], keys: dict[str, Any], dtype: torch.dtype, items: int | None = None
) -> dict[str, Tensor | None]:
    """Return its arguments `c` and `g`, of the first items or of all."""
    frames, g = inputs.get("frames"), inputs.get("speaker")
    if frames is not None:
        frames = frames[:items].to(dtype)
        if not keys.get("upsample_conditional_features"):
            frames = frames.repeat_interleave(hop_length(keys), dim=-1)
    if g is not None:
        g = g[:items].unsqueeze(-1)
    elif "vector" in inputs:
        g = inputs["vector"][:items].to(dtype)
    return {"c": frames, "g": g}


@torch.no_grad()
def run(
    keys: dict[str, Any],
    weights: dict[str, Tensor],
    inputs: dict[str, Tensor],
    dtype: torch.dtype,
    seed: int,
) -> dict[str, Tensor]:
    """Return what the package computes: parameters in both ways, and a free run with its draws."""
    import numpy as np

    model = importlib.import_module("wavenet_vocoder").WaveNet(**keys)
    model.load_state_dict(weights)
    model.to(dtype).eval()
    x = shifted(inputs, keys).to(dtype)
    forward = model(x, **conditions(inputs, keys, dtype))

    last = model.last_conv_layers[-1]
    step, stepped = last.incremental_forward, list[Tensor]()

    def recorded(values: Tensor) -> Tensor:
        stepped.append(step(values)[:, 0])
        return stepped[-1].unsqueeze(1)

    last.incremental_forward = recorded
    more = {"softmax": False, "quantize": False, "log_scale_min": LOG_SCALE_MIN}
    given = conditions(inputs, keys, dtype)
    model.incremental_forward(test_inputs=x, T=x.shape[-1], **given, **more)
    last.incremental_forward = step

    length, scalar = x.shape[-1], keys.get("scalar_input")
    np.random.seed(seed)
    torch.manual_seed(seed)
    free = model.incremental_forward(
        initial_input=x[:1, :, :1].contiguous(),
        T=length,
        log_scale_min=LOG_SCALE_MIN,
        **conditions(inputs, keys, dtype, 1),
    )
    outputs = {"forward": forward, "step": torch.stack(stepped, dim=-1)}
    if not scalar:
        noise = torch.from_numpy(np.random.RandomState(seed).random_sample(length))
        return outputs | {"free": free[0].argmax(dim=0), "noise": noise}
    torch.manual_seed(seed)
    count = keys["out_channels"] // 3
    draws = [  # the same numbers in the same order: of the component, then within it
        torch.empty(shape, dtype=dtype).uniform_(LOWEST, 1 - LOWEST).flatten()
        for _ in range(length)
        for shape in ((1, 1, count), (1, 1))
    ]
    noise = torch.cat(draws).view(length, count + 1)
    return outputs | {"free": free.flatten(), "noise": noise}


# ---- compare: runs this package, not wavenet_vocoder ----


@torch.no_grad()
def compare(folder: Path, names: Sequence[str]) -> None:
    """Print the largest differences of the imported models, and how far the free runs agree."""
    from wavenet.interop import read_torch

    columns = [f"{name} {way}" for name in DTYPES for way in ("forward", "step")]
    print(("{:20}" + "{:>17}" * 5 + "  {}").format("", *columns, "largest", "free run, per dtype"))
    for name in names:
        cells, free = [], []
        largest = 0.0
        for precision, dtype in DTYPES.items():
            theirs = read_torch(folder / f"{name}.{precision}.pt")
            imported = import_model(folder, name, dtype)
            largest = float(theirs["forward"].abs().max())
            cells += differences(imported, theirs, dtype)
            free.append(free_run(imported, theirs, dtype))
        numbers = "".join(f"{cell:17.1e}" for cell in cells)
        print(f"{name:20}{numbers}{largest:17.2f}  {'; '.join(free)}", flush=True)


def import_model(folder: Path, name: str, dtype: torch.dtype) -> Any:
    from wavenet.interop import load

    return load(folder / f"{name}.pth", config=folder / f"{name}.json", dtype=dtype).model


def differences(model: Any, theirs: dict[str, Tensor], dtype: torch.dtype) -> list[float]:
    """Return how far our parameters are from theirs, of `forward` and of `step`."""
    waveform = theirs.get("waveform", torch.empty(0)).to(dtype)
    if "codes" in theirs:
        waveform = model.distribution.decode(theirs["codes"], dtype)
    given = our_conditions(theirs, dtype)
    single = model.distribution.num_params == 2  # without the logit of the only component
    forward, step = (theirs[key][:, 1:] if single else theirs[key] for key in ("forward", "step"))
    off = [float((model(waveform, **given) - forward).abs().max())]

    conditioning = model.compute_conditioning(*waveform.shape, **given)
    state, sample = model.new_state(len(waveform)), torch.zeros_like(waveform[:, 0])
    worst = 0.0
    for t in range(waveform.shape[-1]):
        now = None if conditioning is None else conditioning[..., t]
        params = model.step(sample, state, now)
        worst = max(worst, float((params - step[..., t]).abs().max()))
        sample = waveform[:, t]
    return [*off, worst]


def our_conditions(
    theirs: dict[str, Tensor], dtype: torch.dtype, items: int | None = None
) -> dict[str, Tensor]:
    ours = {"frames": "local", "speaker": "speaker", "vector": "vector"}
    given = {our: theirs[key][:items] for key, our in ours.items() if key in theirs}
    return {key: x.to(dtype) if x.is_floating_point() else x for key, x in given.items()}


def free_run(model: Any, theirs: dict[str, Tensor], dtype: torch.dtype) -> str:
    """Return in words how far our free run with their random numbers is theirs."""
    free, length = theirs["free"], len(theirs["free"])
    conditioning = model.compute_conditioning(1, length, **our_conditions(theirs, dtype, 1))
    scalar = model.config.input_type == "scalar"
    draw: Callable[[Tensor, Tensor], Tensor] = functools.partial(
        draw_mixture if scalar else draw_class, model
    )
    state, sample, samples = model.new_state(1), torch.zeros(1, dtype=dtype), []
    for t in range(length):
        now = None if conditioning is None else conditioning[..., t]
        sample = draw(model.step(sample, state, now), theirs["noise"][t])
        samples.append(sample)
    ours = torch.cat(samples)
    if scalar:
        return f"within {float((ours - free).abs().max()):.1e}"
    same = model.distribution.encode(ours) == free
    return f"{int(same.sum())} of {length} classes"


def draw_class(model: Any, params: Tensor, uniform: Tensor) -> Tensor:
    from wavenet.distributions.distribution import SamplingConfig

    drawn: Tensor = model.distribution.sample(params, uniform.view(1, 1), SamplingConfig())
    return drawn


def draw_mixture(model: Any, params: Tensor, uniforms: Tensor) -> Tensor:
    """Return our draw from the component that their Gumbel noise chooses."""
    from wavenet.distributions.distribution import SamplingConfig

    logits = model.distribution.split(params.double())[0][0]
    gumbel = -torch.log(-torch.log(uniforms[:-1].double()))
    chosen = int((logits + gumbel).argmax())
    weights = logits.softmax(dim=0)
    within = weights[:chosen].sum() + weights[chosen] / 2  # of the interval of that component
    noise = [uniforms[-1].double()] if len(weights) == 1 else [within, uniforms[-1].double()]
    drawn: Tensor = model.distribution.sample(
        params, torch.stack(noise).unsqueeze(0), SamplingConfig()
    )
    return drawn


if __name__ == "__main__":
    torch.set_num_threads(1)  # small matrices
    halves = {"write": write, "compare": compare}
    halves[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:] or list(CASES))
