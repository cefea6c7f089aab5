"""A training run from its config to its report, started or gone on with."""

import ctypes
import dataclasses
import hashlib
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from wavenet import checkpoint
from wavenet.config import check_conditions
from wavenet.data.clips import read_clip
from wavenet.data.crops import Windows
from wavenet.data.manifest import Clip, read_manifest
from wavenet.data.mel import with_statistics
from wavenet.data.notes import read_notes
from wavenet.data.ready import ensure_prepared
from wavenet.data.roll import check_pitches
from wavenet.data.shaping import measured
from wavenet.errors import ConfigError, DataError, printable
from wavenet.evaluation.scores import WINDOW, excerpts_of
from wavenet.evaluation.synthesis import conditions_of_clip
from wavenet.files import locked, recover, write_text
from wavenet.model import WaveNet
from wavenet.plain import from_dict, to_dict
from wavenet.training.data import training_loader
from wavenet.training.finish import finish
from wavenet.training.history import History
from wavenet.training.logs import Curves
from wavenet.training.module import TrainingModule
from wavenet.training.options import RunConfig
from wavenet.training.preview import Preview
from wavenet.training.progress import Progress
from wavenet.training.saves import (
    FOLDER,
    DurableCheckpointIO,
    Saves,
    find_saves,
    read_save,
    step_of,
)
from wavenet.training.signals import StopFlag

CONFIG = "run.json"
log = logging.getLogger("wavenet")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it advises and advertises


def start(config: RunConfig, run: Path | None, stop: StopFlag) -> Path:
    """Train in a new folder, and report; return the folder.

    Args:
        config: The run.
        run: Its folder; absent for `runs/NAME`, or `runs/NAME-2` and so on where that is taken.
        stop: Set by a signal.

    Raises:
        ConfigError: The folder holds something already.
    """
    ensure_prepared(config.data)
    config = conditioned(dataclasses.replace(config, data=config.data.anywhere()))
    run = _new_folder(config, run)
    log.info("run folder: %s", run)
    with locked(run):
        _train(config, run, stop, save=None)
    return run


def resume(config: RunConfig, run: Path, stop: StopFlag) -> None:
    """Go on with a run from its last save, and report.

    Args:
        config: The run's own, or with a later end.
        run: Its folder.
        stop: Set by a signal.
    """
    config = dataclasses.replace(config, data=config.data.anywhere())
    ensure_prepared(config.data)
    with locked(run):
        for pattern in (CONFIG, "model", "report.html", "learning_curve.png"):
            recover(run, pattern)
        recover(run / "samples", "*")
        recover(run / FOLDER, "step-*.ckpt")
        saves = find_saves(run)
        save = saves[-1] if saves else None
        if save is None:
            log.info("%s has no save yet: starting at step 0", run)
        else:
            log.info("going on with %s from step %d", run, step_of(save))
        _train(config, run, stop, save)


def read_run(run: Path) -> RunConfig:
    """Return the config of a run.

    Raises:
        ConfigError: The folder is no run.
    """
    path = run / CONFIG
    if not path.is_file():
        raise ConfigError(f"{printable(run)} is no run: it has no {CONFIG}")
    try:
        return from_dict(RunConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{printable(path)}: {printable(error)}") from error


def conditioned(config: RunConfig) -> RunConfig:
    """Return a run's config with what its data say of conditions: names, means, deviations."""
    data, audio, model = config.data, config.audio, config.model
    everything = read_manifest(data.folder)
    clips = [clip for clip in everything if clip.split == "train"]
    if data.speakers:
        names = tuple(sorted({clip.speaker for clip in clips} - {""}))
        if not names:
            raise DataError(
                f"{printable(data.folder)} names no speakers, and data.speakers=true wants them: "
                "prepare it with data.speaker_folders=true, or from a corpus that has them"
            )
        others = sorted({clip.speaker for clip in everything} - {*names, ""})
        if others:
            log.warning(
                "warning: speakers who are held out and not trained on, told as unknown: %s",
                printable(", ".join(others)),
            )
        audio = dataclasses.replace(audio, speakers=names)
        model = dataclasses.replace(model, speakers=len(names))
    unheard = sorted({*audio.speakers} - {clip.speaker for clip in clips})
    if unheard:
        raise ConfigError(
            f"audio.speakers: no training clip is of {printable(', '.join(unheard))}; "
            "data.speakers=true takes the names from the clips"
        )
    if audio.mel is not None and data.normalise and not audio.mel.clip:
        mel = with_statistics(data.folder, clips, audio.mel)
        audio = dataclasses.replace(audio, mel=mel)
    if audio.notes is not None:
        for clip in everything:
            if clip.notes:
                check_pitches(read_notes(data.folder / clip.notes), audio.notes, clip.notes)
    audio = dataclasses.replace(audio, shaping=measured(data.folder, everything, audio))
    check_conditions(model, audio)
    return dataclasses.replace(config, audio=audio, model=model)


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: an update allocates the same again.

    Without it, each large tensor is mapped, faulted in page by page and unmapped again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def _train(config: RunConfig, run: Path, stop: StopFlag, save: Path | None) -> None:
    folder = config.data.folder
    clips = read_manifest(folder)
    train, held_out = _splits(folder, clips, config)
    torch.manual_seed(config.seed)
    model, max_steps = WaveNet(config.model), config.trainer.max_steps
    skip_or_stop = config.trainer.on_nonfinite
    module = TrainingModule(model, config.optim, max_steps, config.audio, skip_or_stop)
    excerpts = excerpts_of(config.model, config.audio, folder)
    windows = None
    if held_out:
        windows = Windows(
            excerpts,
            held_out,
            window=WINDOW,
            context=config.model.receptive_field,
            limit_seconds=config.trainer.valid_seconds,
        )
    seconds = sum(clip.frames for clip in train) / config.audio.sample_rate
    history = History(
        run,
        config.audio,
        checkpoint.Training(data=config.name, seconds_of_audio=seconds),
        windows,
        config.trainer.valid_every,
        stop,
        _preview(folder, held_out, config, stop),
    )
    module.data_digest = hashlib.sha256(repr(clips).encode()).hexdigest()
    step = 0 if save is None else step_of(save)
    if save is not None:
        saved = read_save(save)
        _compare(saved, module)
        history.load_state_dict(saved["callbacks"][history.state_key])
    write_text(run / CONFIG, json.dumps(to_dict(config), indent=2) + "\n")
    if step < config.trainer.max_steps or history.pending is not None:
        with stop.listening():
            _fit(config, run, stop, module, history, train, save)
    else:
        log.info("step %d was the last: trainer.max_steps=N goes further", step)
    if not stop and config.report.seconds:
        finish(run, config, history)


def _fit(
    config: RunConfig,
    run: Path,
    stop: StopFlag,
    module: TrainingModule,
    history: History,
    train: list[Clip],
    save: Path | None,
) -> None:
    options = config.trainer
    step = 0 if save is None else step_of(save)
    keep_freed_memory()
    loader = training_loader(
        excerpts_of(config.model, config.audio, config.data.folder),
        train,
        options,
        config.model.receptive_field,
        config.seed,
        step * options.accumulate,
    )
    samples_per_step = options.batch_size * options.crop * options.accumulate
    trainer = pl.Trainer(
        accelerator=options.device,
        devices=1,
        precision={"fp32": "32-true", "bf16": "bf16-mixed"}[options.precision],  # type: ignore[arg-type]
        max_steps=options.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=config.optim.clip_norm,
        callbacks=[
            history,
            Progress(samples_per_step, history),
            Saves(run, options, history, stop),
        ],
        logger=Curves(run, step),
        plugins=[DurableCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=run,
    )
    with warnings.catch_warnings():
        # Lightning advises on loaders and logging that are as they should be here.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        with loader.watched():
            trainer.fit(module, loader, ckpt_path=save, weights_only=True)


def _compare(saved: dict[str, Any], module: TrainingModule) -> None:
    """Warn of what makes a run go on otherwise than it would have."""
    if saved["threads"] != torch.get_num_threads():
        log.warning("warning: another number of threads than before: sums may differ in last bits")
    if saved["data"] != module.data_digest:
        log.warning(
            "warning: the clips are not those that the run began with: it goes on with these"
        )


def _splits(folder: Path, clips: list[Clip], config: RunConfig) -> tuple[list[Clip], list[Clip]]:
    rates = {clip.sample_rate for clip in clips} - {config.audio.sample_rate}
    if rates:
        raise DataError(
            f"{printable(folder)} holds clips at {sorted(rates)} Hz, the model wants "
            f"{config.audio.sample_rate}: set audio.sample_rate, or prepare anew"
        )
    train = [clip for clip in clips if clip.split == "train"]
    if not train:
        raise DataError(f"{printable(folder)} holds no clip of the split train")
    return train, [clip for clip in clips if clip.split == "valid"]


def _preview(
    folder: Path, held_out: list[Clip], config: RunConfig, stop: StopFlag
) -> Preview | None:
    length = round(config.trainer.preview_seconds * config.audio.sample_rate)
    if not held_out or not length:
        return None
    longest = max(held_out, key=lambda clip: clip.frames)
    clip = read_clip(folder, longest)[:length]
    conditions = conditions_of_clip(config.audio, folder, longest, len(clip))
    return Preview(clip, config.audio, conditions, stop)


def _new_folder(config: RunConfig, run: Path | None) -> Path:
    """Make and return the run's folder; two runs that start together get one each."""
    if run is not None:
        names = {entry.name for entry in run.iterdir()} if run.exists() else set()
        if {name for name in names if not name.startswith((".run.json.", "lock"))}:
            way_out = f"resume={printable(run)} goes on with it, or choose another run_dir"
            raise ConfigError(f"run_dir {printable(run)} is not empty: {way_out}")
        run.mkdir(parents=True, exist_ok=True)
        return run
    number = 1
    while True:
        run = Path("runs") / (config.name if number == 1 else f"{config.name}-{number}")
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return run
