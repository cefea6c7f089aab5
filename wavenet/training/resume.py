"""Where a resumed run continues: at its newest intact training checkpoint, the same for all."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import torch

from wavenet.checkpoint import read_config
from wavenet.model_directory import CONFIG as MODEL_CONFIG
from wavenet.training.checkpointing import (
    CHECKPOINTS_DIR,
    check_contents,
    checkpoint_step,
    find_checkpoints,
    first_regular_step,
    newest_intact,
    read_checkpoint,
)
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.loggers import last_logged_step
from wavenet.training.options import TrainerOptions
from wavenet.training.state import TrainingState
from wavenet.training.validation import History
from wavenet.utils.errors import CheckpointError, DataError, printable

log = logging.getLogger("wavenet")


def refuse_without_checkpoints(run: Path, options: TrainerOptions) -> None:
    """Raise a `CheckpointError` if a run has lost its checkpoints, but not its trained model.

    It would start at step 0 and overwrite the model. A run that was killed before its first
    checkpoint has lost nothing: it has no model, or one of a step that came before.

    Args:
        run: The run's folder.
        options: Those that it was started with.
    """
    if find_checkpoints(run) or not (run / "model" / MODEL_CONFIG).is_file():
        return
    first, of_step = first_regular_step(options), ""
    with contextlib.suppress(CheckpointError):  # a damaged model is not overwritten either
        training = read_config(run / "model").training
        steps = training.steps
        folder = run / CHECKPOINTS_DIR
        emptied = folder.is_dir() and not any(folder.iterdir())
        finished = (run / "report.html").is_file() or bool(training.evaluation)
        went_on = steps > first or last_logged_step(run) > first
        if not steps or not (went_on or emptied or finished):
            return
        of_step = f" of step {steps:,}"
    model = printable(run / "model")
    raise CheckpointError(
        f"{printable(run)} has no checkpoint to resume from, and training from step 0 would "
        f"overwrite {model}{of_step}: restore {printable(run / CHECKPOINTS_DIR)}, or continue from "
        f"the model's weights with init={model} run_dir=OTHER"
    )


def load_last_checkpoint(
    run: Path, state: TrainingState, history: History, data_digest: str, group: ProcessGroup
) -> bool:
    """Continue from a run's newest intact training checkpoint; return whether it has one.

    Process 0 finds it, see `newest_intact`; all continue from the same one.

    Raises:
        CheckpointError: All are damaged, or it is of another run.
        DataError: The clips are not those that the run started with.
        MachineError: One cannot be read.
    """
    read: dict[Path, dict[str, Any]] = {}  # in process 0, which has read it already

    def find() -> Path | None:
        found = newest_intact(run)
        if found is not None:
            read.update([found])
        return None if found is None else found[0]

    path = group.run_on_rank_zero(find)
    if path is None:
        return False
    log.info("resuming %s from step %d", printable(run), checkpoint_step(path))
    contents = read[path] if path in read else read_checkpoint(path)
    check_contents(path, contents, state)
    _compare(contents, data_digest, group)
    try:
        state.load_state_dict(contents, group)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{printable(path)} does not fit the run: {printable(error)}"
        ) from error
    history.load_state_dict(contents["history"])
    return True


def _compare(contents: dict[str, Any], data_digest: str, group: ProcessGroup) -> None:
    """Refuse other data; warn about what keeps the bits from those of an uninterrupted run."""
    if contents["num_threads"] != torch.get_num_threads():
        log.warning(
            "warning: the number of threads changed since the checkpoint: sums may differ in the "
            "last bits"
        )
    previous = len(contents["rng_states"])
    if previous != group.size:
        log.warning(
            "warning: the number of processes changed since the checkpoint (%d, now %d): the run "
            "continues with other random numbers, and sums may differ in the last bits",
            *(previous, group.size),
        )
    if contents["data_digest"] != data_digest:
        raise DataError(
            f"the clips (digest {data_digest[:8]}) are not those that the run started with "
            f"(digest {contents['data_digest'][:8]}): set data.processed_dir to the folder of those"
        )
