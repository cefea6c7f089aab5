"""A training run from its config to its report, started or gone on with."""

import dataclasses
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from wavenet import checkpoint
from wavenet.data.clip_reader import read_clip
from wavenet.data.dataset import Windows, crops_of_a_batch
from wavenet.data.manifest import Manifest, read_manifest
from wavenet.data.preparation.prepare import ensure_prepared, ensure_same_data
from wavenet.evaluation.nll import WINDOW_SAMPLES, make_clip_reader
from wavenet.evaluation.synthesis import clip_conditioning
from wavenet.model import WaveNet
from wavenet.training.acceleration import check_device, hasten, keep_freed_memory
from wavenet.training.audio_preview import Preview
from wavenet.training.checkpointing import FOLDER as SAVES
from wavenet.training.checkpointing import (
    DurableCheckpointIO,
    Saves,
    find_saves,
    read_save_of,
    step_of,
)
from wavenet.training.data import training_loader
from wavenet.training.distributed.gradient_sync import Updates
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.distributed.slurm import requeue
from wavenet.training.final_report import finish
from wavenet.training.module import TrainingModule, seed_of
from wavenet.training.options import RunConfig, TrainerOptions
from wavenet.training.progress import Progress
from wavenet.training.resolve_config import conditioned
from wavenet.training.run_dir import held, new_folder, started_before
from wavenet.training.signals import StopFlag
from wavenet.training.strategy import TeamStrategy
from wavenet.training.tensorboard import TensorBoard
from wavenet.training.validation import History
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import remove_leftovers, write_text

CONFIG = "run.json"
DATASET = "dataset"  # key in it, beside those of the config
log = logging.getLogger("wavenet")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it advises and advertises


def start(config: RunConfig, run: Path | None, stop: StopFlag, team: ProcessGroup) -> Path:
    """Train in a new folder, and report; return the folder.

    Where a launcher starts the same again, the run goes on from its last save.

    Args:
        config: The run.
        run: Its folder; absent for `runs/NAME`, or `runs/NAME-2` and so on where that is taken.
        stop: Set by a signal.
        team: The processes that train it.

    Raises:
        ConfigError: The folder holds something already.
    """

    def begin() -> tuple[RunConfig, Path, bool]:
        begun = started_before(config, run, team.launch.name)
        if begun is not None:
            log.info("%s was begun by this launch (%s)", begun, team.launch.name)
            if (begun / CONFIG).is_file():
                its_own = read_run(begun)
                return _ready(its_own, team, begun), begun, _finished(its_own, begun)
        complete = conditioned(_ready(config, team))
        return complete, begun or new_folder(config, run, team.launch.name), False

    complete, folder, finished = team.share(begin)
    if finished:
        log.info("%s is finished: another launch, or run_dir=FOLDER, starts anew", folder)
        return folder
    log.info("run folder: %s", folder)
    _go_on(complete, folder, stop, team)
    return folder


def resume(config: RunConfig, run: Path, stop: StopFlag, team: ProcessGroup) -> None:
    """Go on with a run from its last save, and report.

    Args:
        config: The run's own, or with a later end.
        run: Its folder.
        stop: Set by a signal.
        team: The processes that train it.
    """
    _go_on(team.share(lambda: _ready(config, team, run)), run, stop, team)


def read_run(run: Path) -> RunConfig:
    """Return the config of a run.

    Raises:
        ConfigError: The folder is no run.
    """
    return _read_run(run)[0]


def _read_run(run: Path) -> tuple[RunConfig, DataIdentity | None]:
    """Return the config of a run, and which clips it is trained with."""
    path = run / CONFIG
    if not path.is_file():
        raise ConfigError(f"{printable(run)} is no run: it has no {CONFIG}")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        dataset = plain.pop(DATASET, None) if isinstance(plain, dict) else None
        identity = None if dataset is None else from_dict(DataIdentity, dataset, str(path))
        return from_dict(RunConfig, plain, str(path)), identity
    except (OSError, ValueError) as error:
        raise ConfigError(f"{printable(path)}: {printable(error)}") from error


def _ready(config: RunConfig, team: ProcessGroup, run: Path | None = None) -> RunConfig:
    """Prepare the data if that is not done; return the config with absolute paths.

    Args:
        config: The run's config.
        team: The processes that train it.
        run: Folder of a run that continues: its data must be those it began with.
    """
    check_device(config.trainer.device)
    crops_of_a_batch(
        config.trainer.global_batch_size, team.size, config.trainer.accumulate_grad_batches
    )
    if run is None:
        folder = ensure_prepared(config.data)
    else:
        folder = ensure_same_data(config.data, _read_run(run)[1], run)
    return dataclasses.replace(config, data=config.data.at(folder))


def _finished(config: RunConfig, run: Path) -> bool:
    """Whether nothing is left to do for a run, its report neither."""
    saves = find_saves(run)
    trained = bool(saves) and step_of(saves[-1]) >= config.trainer.max_steps
    return trained and (not config.evaluation.sample_seconds or (run / "report.html").is_file())


def _go_on(config: RunConfig, run: Path, stop: StopFlag, team: ProcessGroup) -> None:
    """Train from the last save on, if there is one, to the end or a signal."""
    with held(run, team):
        saves = team.share(lambda: find_saves(run))
        save = saves[-1] if saves else None
        if save is not None:
            log.info("going on with %s from step %d", run, step_of(save))
        _train(config, run, stop, team, save)

    def queue() -> None:
        ended_early = stop.signal is not None and stop.signal.name == "SIGUSR1"
        if ended_early and config.trainer.auto_requeue:
            requeue(os.environ.get("SLURM_JOB_ID"))

    team.share(queue)  # the others wait, for Slurm may end the step when one of them ends


def _train(
    config: RunConfig, run: Path, stop: StopFlag, team: ProcessGroup, save: Path | None
) -> None:
    folder = config.data.folder
    clips = read_manifest(folder)
    train, held_out = _splits(folder, clips, config)
    torch.manual_seed(config.seed)
    model, max_steps = WaveNet(config.model), config.trainer.max_steps
    if team.rank:
        torch.manual_seed(seed_of(config.seed, team.rank))  # of its own dropout
    hasten(model, config.trainer)
    module = TrainingModule(
        model,
        config.optim,
        max_steps,
        config.audio,
        team,
        on_nonfinite=config.trainer.on_nonfinite,
        compiled=config.trainer.torch_compile,
    )
    excerpts = make_clip_reader(config.model, config.audio, folder)
    windows = None
    if held_out:
        windows = Windows(
            excerpts,
            held_out,
            window=WINDOW_SAMPLES,
            context=config.model.receptive_field,
            limit_seconds=config.trainer.val_seconds,
        )
    seconds = int(train.frames.sum()) / config.audio.sample_rate
    updates = Updates(team, stop)
    history = History(
        run,
        config.audio,
        checkpoint.TrainingInfo(data=config.name, seconds_of_audio=seconds, dataset=clips.identity),
        windows,
        config.trainer.val_every_n_steps,
        updates,
        _preview(folder, held_out, config, stop),
    )
    module.data_digest = clips.digest
    step = 0 if save is None else step_of(save)
    if save is not None:
        saved = read_save_of(save, module, history)
        _compare(saved, module)
        history.load_state_dict(saved["callbacks"][history.state_key])
    team.share(lambda: _write_config(run, config, clips.identity))
    if step < config.trainer.max_steps or history.pending is not None:
        with stop.listening(), team.together():
            _fit(config, run, updates, module, history, train, save)
        stop.signal = stop.signal or updates.stop.signal
    else:
        log.info("step %d was the last: trainer.max_steps=N goes further", step)

    def end() -> None:
        if not stop and config.evaluation.sample_seconds:
            finish(run, config, history)

    team.share(end)


def _write_config(run: Path, config: RunConfig, dataset: DataIdentity) -> None:
    """Write down what the run is, and remove what a killed process left half-written."""
    remove_leftovers(run / SAVES)
    remove_leftovers(run / "samples")
    for name in (CONFIG, "model", "report.html", "learning_curve.png"):
        remove_leftovers(run, name)
    plain = {**to_dict(config), DATASET: to_dict(dataset)}
    write_text(run / CONFIG, json.dumps(plain, indent=2) + "\n")


def _fit(
    config: RunConfig,
    run: Path,
    updates: Updates,
    module: TrainingModule,
    history: History,
    train: Manifest,
    save: Path | None,
) -> None:
    options, team = config.trainer, updates.team
    step = 0 if save is None else step_of(save)
    keep_freed_memory()
    loader = training_loader(
        make_clip_reader(config.model, config.audio, config.data.folder),
        train,
        options,
        config.model.receptive_field,
        config.seed,
        step * options.accumulate_grad_batches,
        team,
    )
    trainer = pl.Trainer(
        **_placed(options, team),
        devices=1,
        precision=options.precision,
        max_steps=options.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=options.accumulate_grad_batches,
        callbacks=[
            updates,
            history,
            Progress(options.global_batch_size * options.segment_length, history, updates, loader),
            Saves(run, options, history, updates.stop),
        ],
        logger=TensorBoard(run, step),
        plugins=[DurableCheckpointIO(), LightningEnvironment()],  # not that of a launcher
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


def _placed(options: TrainerOptions, team: ProcessGroup) -> dict[str, Any]:
    """Return what the trainer is told of devices and processes."""
    if team.device is not None:
        return {"accelerator": team.device.type, "strategy": TeamStrategy(team)}
    idle = torch.cuda.device_count() - 1
    if options.device in ("auto", "cuda") and idle > 0:
        log.info(
            "this run uses one GPU, and %d more are here: "
            "torchrun --standalone --nproc-per-node=%d $(which wavenet-train) ... uses all",
            *(idle, idle + 1),
        )
    return {"accelerator": options.device}


def _compare(saved: dict[str, Any], module: TrainingModule) -> None:
    """Warn of what makes a run go on otherwise than it would have."""
    if saved["threads"] != torch.get_num_threads():
        log.warning("warning: another number of threads than before: sums may differ in last bits")
    if len(saved["random_states"]) != module.team.size:
        log.warning(
            "warning: another number of processes than before (%d, now %d): it goes on with other "
            "random numbers, and sums may differ in last bits",
            *(len(saved["random_states"]), module.team.size),
        )
    if saved["data"] != module.data_digest:
        raise DataError(
            f"the clips (digest {module.data_digest[:8]}) are not those that the run began with "
            f"(digest {saved['data'][:8]}): set data.processed_dir to the folder with those"
        )


def _splits(folder: Path, clips: Manifest, config: RunConfig) -> tuple[Manifest, Manifest]:
    rates = {*clips.sample_rates} - {config.audio.sample_rate}
    if rates:
        raise DataError(
            f"{printable(folder)} holds clips at {sorted(rates)} Hz, the model wants "
            f"{config.audio.sample_rate}: set audio.sample_rate, or prepare anew"
        )
    train = clips.of_split("train")
    if not train:
        raise DataError(f"{printable(folder)} holds no clip of the split train")
    return train, clips.of_split("valid")


def _preview(folder: Path, held_out: Manifest, config: RunConfig, stop: StopFlag) -> Preview | None:
    length = round(config.trainer.preview_seconds * config.audio.sample_rate)
    if not held_out or not length:
        return None
    longest = held_out[int(np.argmax(held_out.frames))]
    clip = read_clip(folder, longest)[:length]
    conditions = clip_conditioning(config.audio, folder, longest, len(clip))
    return Preview(clip, config.audio, conditions, stop)
