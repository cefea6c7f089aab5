"""The device that a command computes on, by its name in a config."""

import torch

from wavenet.utils.errors import ConfigError

DEVICE_HELP = "auto uses a GPU if available"


def check_device(name: str, key: str = "device") -> None:
    """Check that PyTorch finds a device.

    Args:
        name: `auto`, `cpu`, `cuda` or `mps`.
        key: The config key that has it.

    Raises:
        ConfigError: It does not.
    """
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    if name in backends and not backends[name].is_available():
        raise ConfigError(
            f"{key}={name}: PyTorch {torch.__version__} finds none here; "
            f"set {key}=cpu, or leave it at auto"
        )


def find_device(name: str, key: str = "device") -> torch.device:
    """Return the device of a name, a CUDA GPU for `auto` if there is one.

    Args:
        name: `auto`, `cpu`, `cuda` or `mps`.
        key: The config key that has it.

    Raises:
        ConfigError: PyTorch does not find it.
    """
    check_device(name, key)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
