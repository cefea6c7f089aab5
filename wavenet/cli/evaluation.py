"""`wavenet-evaluate`'s choice of audio: the model's own held-out clips unless told otherwise."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from wavenet import checkpoint
from wavenet.cli.options import EvaluateCommand
from wavenet.data.manifest import Manifest, read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.ready import ensure_prepared
from wavenet.errors import ConfigError, DataError, printable
from wavenet.evaluation.options import ReportOptions
from wavenet.evaluation.scores import held_out
from wavenet.plain import from_dict


def evaluated_clips(options: EvaluateCommand) -> tuple[checkpoint.Checkpoint, Path, Manifest]:
    """Return the checkpoint, a prepared folder, and the clips of it that are held out.

    Raises:
        ConfigError: No audio was named, and the checkpoint lies in no run; or the page exists.
        DataError: Nothing is held out, or the clips have another rate than the model.
    """
    page = page_of(options)
    if page is not None and page.exists() and not options.overwrite:
        raise ConfigError(f"{printable(page)} exists: choose another output, or overwrite=true")
    loaded = checkpoint.load(options.checkpoint)
    rate = loaded.audio.sample_rate
    data = dataclasses.replace(options.data, sample_rate=rate)
    if data.root is None and data.prepared is None:
        data = _data_of_run(Path(options.checkpoint).resolve().parent)
    folder = ensure_prepared(data)
    clips = held_out(read_manifest(folder))
    if not clips:
        raise DataError(f"{printable(folder)} holds nothing out: prepare it with test_fraction")
    if clips[0].sample_rate != rate:
        raise DataError(f"the clips are at {clips[0].sample_rate} Hz, the model at {rate} Hz")
    return loaded, folder, clips


def with_temperature_of_run(options: EvaluateCommand, said: Sequence[str]) -> EvaluateCommand:
    """Return the options with the temperature of the checkpoint's run, unless another is said."""
    path = Path(options.checkpoint).resolve().parent / "run.json"
    if "report.temperature" in said or not path.is_file():
        return options
    run = json.loads(path.read_text(encoding="utf-8"))
    report = from_dict(ReportOptions, run["report"], str(path))
    report = dataclasses.replace(options.report, temperature=report.temperature)
    return dataclasses.replace(options, report=report)


def page_of(options: EvaluateCommand) -> Path | None:
    """Return where the listening page goes; `None` where there is nothing to hear."""
    if options.output is None or not options.report.seconds:
        return None
    page = Path(options.output)
    if page.suffix.lower() != ".html":
        raise ConfigError(f"output must be a .html file, got {printable(page)}")
    return page


def _data_of_run(run: Path) -> DataOptions:
    path = run / "run.json"
    if not path.is_file():
        raise ConfigError(
            "which audio? The checkpoint lies in no run: say data.root=FOLDER, or data.prepared"
        )
    data = from_dict(DataOptions, json.loads(path.read_text(encoding="utf-8"))["data"], str(path))
    return dataclasses.replace(data, root=None)  # its clips are prepared
