"""Which words of a command line change a run that goes on, and which cannot."""

from typing import Any

from wavenet.cli.compose import Composed
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

CHANGEABLE = ("trainer.", "evaluation.", "data.root", "data.processed_dir", "data.num_workers")
ABOUT_THE_COMMAND = ("resume", "debug")


def changed(config: RunConfig, composed: Composed) -> RunConfig:
    """Return a run's own config with what the command line says anew.

    Args:
        config: The run's own.
        composed: The command line, composed.

    Raises:
        ConfigError: The command line says something that a run cannot change.
    """
    plain = to_dict(config)
    for key in composed.said:
        if key in ABOUT_THE_COMMAND:
            continue
        if not key.startswith(CHANGEABLE):
            raise ConfigError(
                f"{key}: a run goes on with its own; only trainer.*, report.* and data's places "
                "can be said anew. Leave it out, or start another run"
            )
        _put(plain, key, _get(composed.plain, key))
    if "data.root" in composed.said and "data.processed_dir" not in composed.said:
        plain["data"]["processed_dir"] = None  # the one of those recordings
    return from_dict(RunConfig, plain)


def _get(plain: dict[str, Any], key: str) -> Any:
    value: Any = plain
    for part in key.split("."):
        value = value[part]
    return value


def _put(plain: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for part in parents:
        plain = plain[part]
    plain[leaf] = value
