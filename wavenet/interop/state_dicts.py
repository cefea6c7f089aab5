"""The weights among what a torch file holds."""

from typing import Any

from torch import Tensor

from wavenet.utils.errors import CheckpointError, listed, printable

NAMES = ("state_dict", "model", "generator", "model_state_dict")  # where checkpoints hold weights
PARALLEL = "module."  # what DataParallel puts before each name


def state_dict_of(contents: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights by name, of a state dict, a training checkpoint or a module.

    Args:
        contents: From `read_torch`.

    Raises:
        CheckpointError: There are none.
    """
    weights = _find(contents, depth=3)
    if not weights:
        keys = [printable(key) for key in contents]
        raise CheckpointError(
            "holds no weights by name: expected a state dict, a module, or a dict with one of the "
            f"keys {', '.join(NAMES)}; its keys are{listed(keys)}"
        )
    if all(name.startswith(PARALLEL) for name in weights):
        weights = {name[len(PARALLEL) :]: tensor for name, tensor in weights.items()}
    return weights


def _find(contents: Any, depth: int) -> dict[str, Tensor]:
    if not isinstance(contents, dict) or depth == 0:
        return {}
    if "_modules" in contents:
        return _of_module(contents, "")
    if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in contents.items()):
        return contents
    found = (_find(contents.get(name), depth - 1) for name in NAMES)
    return next(filter(None, found), {})


def _of_module(module: Any, prefix: str) -> dict[str, Tensor]:
    """Return parameters and buffers of a pickled module, named as its `state_dict` names them."""
    weights: dict[str, Tensor] = {}
    for group in ("_parameters", "_buffers", "_modules"):
        values = module.get(group) if isinstance(module, dict) else None
        for name, value in (values if isinstance(values, dict) else {}).items():
            if group == "_modules":
                weights |= _of_module(value, f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                weights[f"{prefix}{name}"] = value
    return weights
