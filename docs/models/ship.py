"""Ship the model of a run inside the package, with its figures, curve, picture and sample.

    python -m docs.models.ship runs/demo_voice demo_voice --evaluate
    python -m docs.models.table          # then: the page docs/models.md

reads `docs/models/NAME/about.yaml`, what a run does not know of itself, and writes

    wavenet/shipped/NAME/    weights (bfloat16 if float32 is too large), config, card, example input
    docs/models/NAME/        evaluation.json, run.json, learning_curve.png, spectrogram.png,
                             generated.flac, signal.json (for the tests); original.flac and
                             griffin_lim.flac, where the example is the mel of a recording

Without --evaluate an evaluation of the same weights is kept, and one of other weights is removed.
"""

import argparse
import dataclasses
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from torch import Tensor

import wavenet
from wavenet.checkpoint import WEIGHTS, Checkpoint, FileDtype, TrainingInfo
from wavenet.config import MelConfig
from wavenet.data.audio import read_samples
from wavenet.data.manifest import Clip
from wavenet.evaluation import plots
from wavenet.evaluation.baselines import griffin_lim
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.held_out import held_out_clips
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import HEADINGS
from wavenet.evaluation.synthesis import RESYNTHESIS
from wavenet.features.mel import LogMel, write_mel
from wavenet.generation.inputs import EXAMPLE, example_input, read_inputs
from wavenet.model_directory import SHIPPED
from wavenet.sampling import make_sampler
from wavenet.training.checkpointing import find_checkpoints, read_checkpoint
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.files import file_digest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "models"
MAX_BYTES = 2_000_000  # of a shipped model
EXAMPLE_BYTES = 100_000  # room for card, config and example
PAUSE_SECONDS = 900.0  # a longer one between two points of the curve is not training
KEPT_SAMPLES = 200  # of a signal, for a machine whose convolutions round otherwise


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What a run does not know of itself: `docs/models/NAME/about.yaml`.

    Attributes:
        description: A sentence for the page.
        license: Of the weights.
        data_license: Of the training audio.
        attribution: As the license of the data asks for.
        command: That trained the model.
        machine: That it ran on.
        clip: Recording of the test split whose mel is the example; absent if the example is there.
        temperature: That suits the model; absent for that of its run.
        speaker: Of the example, for the sample on the page.
        seconds: Length of the sample on the page; absent for all that the example covers.
    """

    description: str
    license: str
    data_license: str
    attribution: str
    command: str
    machine: str
    clip: str | None = None
    temperature: float | None = None
    speaker: str | None = None
    seconds: float | None = None


def read_about(name: str) -> About:
    """Return what `about.yaml` tells of a model."""
    path = PAGES / name / "about.yaml"
    return from_dict(About, OmegaConf.to_container(OmegaConf.load(path)), str(path))


def ship(run: Path, name: str, *, evaluate: bool) -> None:
    """Write the shipped folder of a run's best model, and its files of the documentation."""
    about, folder, page = read_about(name), SHIPPED / name, PAGES / name
    trained = wavenet.load(run / "model")
    info = dataclasses.replace(
        trained.training,
        license=about.license,
        data_license=about.data_license,
        attribution=about.attribution,
        command=about.command,
        duration=f"{training_time(run)} on {about.machine}",
        evaluation=None,
        temperature=about.temperature or trained.training.temperature,
    )
    save(trained, folder, info)
    if about.clip is not None:
        write_example(run, about.clip, folder)
    figures = evaluation(run, folder, page / "evaluation.json", fresh=evaluate)
    if figures is not None:
        save(trained, folder, dataclasses.replace(info, evaluation=figures))
    write_run(run, page)
    write_sample(name, about, page)
    if about.clip is not None and trained.audio.mel is not None:
        prepared, clip = held_out_clip(run, about.clip, trained)
        write_references(prepared / clip.path, trained.audio.mel, page)
    samples = drawn(name)
    first = [round(float(sample) * 32768) for sample in samples[:KEPT_SAMPLES]]
    signal = {"sha256": digest(samples), "first_samples": first}
    (page / "signal.json").write_text(json.dumps(signal) + "\n", encoding="utf-8")
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {total:,} bytes, {trained.training.steps:,} steps, {info.duration}")
    if total >= MAX_BYTES:
        raise SystemExit(f"{name} has {total:,} bytes, expected less than {MAX_BYTES:,}")


def save(trained: Checkpoint, folder: Path, info: TrainingInfo) -> None:
    """Write a model directory; its example stays."""
    weights = sum(tensor.numel() for tensor in trained.model.state_dict().values())
    fits = 4 * weights < MAX_BYTES - EXAMPLE_BYTES
    dtype: FileDtype = "float32" if fits else "bfloat16"
    examples = {path: path.read_bytes() for path in folder.glob(EXAMPLE)}
    for path in examples:
        path.unlink()
    wavenet.save(trained.model, folder, trained.audio, info, weight_dtype=dtype)
    for path, contents in examples.items():
        path.write_bytes(contents)


def held_out_clip(run: Path, source: str, loaded: Checkpoint) -> tuple[Path, Clip]:
    """Return the prepared folder of a run, and the clip of a recording that it held out."""
    prepared, clips = held_out_clips(run / "model", loaded)
    found = [clip for clip in clips if clip.source == source and clip.split == "test"]
    if not found:
        raise SystemExit(f"{source} is no recording of the test split of {run}")
    return prepared, found[0]


def write_example(run: Path, source: str, folder: Path) -> None:
    """Write the mel of a held-out recording as the example of a model, in float16."""
    loaded = wavenet.load(folder)
    mel, (prepared, clip) = loaded.audio.mel, held_out_clip(run, source, loaded)
    assert mel is not None
    waveform = torch.from_numpy(read_samples(prepared / clip.path)[:, 0])
    with torch.no_grad():
        frames = LogMel(mel)(waveform[None])[0]
    write_mel(folder / "example.safetensors", frames.half(), mel)


def evaluation(run: Path, folder: Path, path: Path, *, fresh: bool) -> dict[str, float] | None:
    """Return the figures of the evaluation at `path` for the card, a fresh one if asked for."""
    loaded = wavenet.load(folder)
    temperature = loaded.training.temperature or 1.0
    weights = f"{file_digest(folder / WEIGHTS)} at temperature {temperature:g}"
    if fresh:
        prepared, clips = held_out_clips(run / "model", loaded)
        options = EvaluationOptions(temperature=temperature)
        evaluator = Evaluator(loaded, prepared, clips, options)
        nll = evaluator.nll()
        evaluator.clips = longest_of_each_speaker(clips, options.num_resynthesis)
        results = evaluator.summarize(nll, evaluator.resynthesize())
        print(results.text())
        plain = {"weights": weights, **results.to_json()}
        path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    if not path.exists():
        return None
    plain = json.loads(path.read_text(encoding="utf-8"))
    if plain["weights"] != weights:
        print(f"{path} is of other weights, or at another temperature: removed")
        path.unlink()
        return None
    found = {}
    for name, means in plain["mean_metrics"].items():
        if name.startswith(RESYNTHESIS):
            passes = name.removeprefix(RESYNTHESIS)
            for heading, value in zip(HEADINGS, means.values(), strict=True):
                found[f"{heading}{passes}"] = value
    return {heading: value for heading, value in found.items() if value is not None}


def longest_of_each_speaker(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Return `count` clips for resynthesis, equally many of each speaker, the longest."""
    by_speaker: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: -clip.frames):
        by_speaker.setdefault(clip.speaker, []).append(clip)
    each = -(-count // len(by_speaker))
    return [clip for found in by_speaker.values() for clip in found[:each]][:count]


def training_time(run: Path) -> str:
    """Return how long a run has trained, without pauses, from the times of its curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    points = events.Scalars("train/bits_per_sample")
    gaps = np.diff([point.wall_time for point in points])
    hours = float(gaps[gaps < PAUSE_SECONDS].sum()) / 3600
    return f"{hours:.1f} hours for {points[-1].step:,} steps"


def write_run(run: Path, page: Path) -> None:
    """Write a run's config without paths of its machine, and its learning curve so far."""
    config = without_paths(json.loads((run / "run.json").read_text(encoding="utf-8")))
    (page / "run.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    history = read_checkpoint(find_checkpoints(run)[-1])["history"]
    curve = plots.learning_curve(history["train"], history["val"], {})
    write_picture(curve, page / "learning_curve.png")


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file."""
    path.write_bytes(plots.png(figure))


def without_paths(plain: Any) -> Any:
    """Return plain data with null for every absolute path."""
    if isinstance(plain, dict):
        return {key: without_paths(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [without_paths(value) for value in plain]
    return None if isinstance(plain, str) and plain.startswith("/") else plain


def write_sample(name: str, about: About, page: Path) -> None:
    """Write what `wavenet-generate checkpoint=NAME` draws, as FLAC and as a picture."""
    more = [] if about.speaker is None else [f"speaker={about.speaker}"]
    more += [] if about.seconds is None else [f"seconds={about.seconds}"]
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "generated.wav"
        command = [f"checkpoint={name}", f"output={wav}", *more]
        program = ROOT / "recipes" / "generate.py"
        subprocess.run([sys.executable, str(program), *command], check=True, cwd=folder)
        samples, rate = soundfile.read(wav, dtype="int16")
    soundfile.write(page / "generated.flac", samples, rate, subtype="PCM_16")
    title = f"{name}: generated from its example"
    write_picture(plots.spectrogram(samples / 32768, rate, title), page / "spectrogram.png")


def write_references(recording: Path, mel: MelConfig, page: Path) -> None:
    """Write the recording of the example, and what Griffin-Lim makes of its mel spectrogram."""
    original = read_samples(recording)[:, 0]
    for name, samples in (("original", original), ("griffin_lim", griffin_lim(original, mel))):
        path = page / f"{name}.flac"
        soundfile.write(path, samples.clip(-1, 1), mel.sample_rate, subtype="PCM_16")


def drawn(name: str) -> Tensor:
    """Return a quarter second that a shipped model draws with seed 0, `(T,)`, for the tests.

    Its frames are those from half a second on in the example; computed by `backend=cpu`.
    """
    loaded, path = wavenet.load(name), example_input(name)
    audio = loaded.audio
    frames = read_inputs(path, None, audio, None)[1]
    assert frames is not None
    per_second = audio.sample_rate / (audio.hop_length or 1)
    start, stop = round(per_second / 2), round(per_second * 3 / 4)
    sampling = wavenet.SamplingConfig(temperature=loaded.training.temperature or 1.0)
    sampler = make_sampler(loaded.model, "cpu")
    return sampler.generate(local=frames[..., start:stop], seed=0, sampling=sampling)[0]


def digest(signal: Tensor) -> str:
    """Return the SHA-256 of the float32 samples of a signal."""
    return hashlib.sha256(signal.numpy().astype("<f4").tobytes()).hexdigest()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Ship the model of a run inside the package.")
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--evaluate", action="store_true")
    arguments = parser.parse_args()
    ship(arguments.run, arguments.name, evaluate=arguments.evaluate)
