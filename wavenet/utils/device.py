"""The device that is computed on, by its name in a config or in a call."""

import torch

from wavenet.utils.errors import ConfigError, printable

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


def parse_device(name: torch.device | str) -> torch.device:
    """Return the device of a call, such as `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ConfigError: It is no name of a device, or PyTorch does not find it here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"device must be cpu, cuda, cuda:N or mps, got {printable(repr(name))}"
        ) from error
    counts = {"cuda": torch.cuda.device_count, "mps": torch.mps.device_count}
    if device.type in counts and (device.index or 0) >= (count := counts[device.type]()):
        lower = f"a number below {count}, or " if count else ""
        raise ConfigError(
            f"device={device}: PyTorch {torch.__version__} finds {count or 'none'} here; "
            f"use {lower}cpu"
        )
    return device
