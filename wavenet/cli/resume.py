"""Which keys of a command line change a run that is resumed, and which cannot."""

from typing import Any

from wavenet.cli.compose import Composed
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

CHANGEABLE = ("trainer.", "evaluation.", "data.root", "data.processed_dir", "data.num_workers")
COMMAND_KEYS = ("resume", "debug")


def with_overrides(config: RunConfig, composed: Composed) -> RunConfig:
    """Return the config of a run with the overrides of the command line that resumes it.

    Raises:
        ConfigError: An override changes a key that is fixed for a run.
    """
    plain = to_dict(config)
    for key in composed.overridden:
        if key in COMMAND_KEYS:
            continue
        if not key.startswith(CHANGEABLE):
            raise ConfigError(
                f"{key}: a resumed run keeps its own; only trainer.*, evaluation.* and the folders "
                "of data can change. Leave it out, or start another run"
            )
        *parents, leaf = key.split(".")
        target: dict[str, Any] = plain
        source: dict[str, Any] = composed.plain
        for part in parents:
            target, source = target[part], source[part]
        target[leaf] = source[leaf]
    if "data.root" in composed.overridden and "data.processed_dir" not in composed.overridden:
        plain["data"]["processed_dir"] = None  # that of the new recordings
    return from_dict(RunConfig, plain)
