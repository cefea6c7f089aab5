"""Mel spectrograms as files, with the convention that they were made by.

Ours is a safetensors file: a tensor `mel`, `(bins, F)`, and the convention as metadata. A `.npy`
array carries none, so whoever hands one over says which convention it has.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from wavenet.config import MelConfig
from wavenet.mel_presets import MEL_PRESETS, mel_mismatch, renormalize
from wavenet.utils.dataclass_io import from_dict, nearest, to_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import atomic_file

METADATA = "wavenet.mel"


def write_mel(path: Path, mel: Tensor, config: MelConfig) -> None:
    """Write a mel spectrogram, `(bins, F)`, and its convention, atomically."""
    metadata = {METADATA: json.dumps(to_dict(config))}
    with atomic_file(path) as temporary:
        temporary.write_bytes(serialize({"mel": mel.contiguous()}, metadata))


def read_mel(path: Path, wanted: MelConfig, convention: str | None = None) -> Tensor:
    """Return a mel spectrogram, `(bins, F)`, normalised as `wanted` is.

    Args:
        path: A `.safetensors` file that `write_mel` wrote, or a `.npy` array `(bins, F)`.
        wanted: The model's convention.
        convention: Name of a `.npy` array's, one of `MEL_PRESETS`, or `model` for the model's own.

    Raises:
        ConfigError: No convention has that name, or none was named.
        DataError: The file holds something else, or another convention.
    """
    if path.suffix.lower() == ".npy":
        mel, found = _array(path), _named(path, wanted, convention)
    else:
        mel, found = _ours(path)
    different = mel_mismatch(wanted, found)
    if different is not None:
        raise DataError(f"{printable(path)}: {different}; make it anew, or give the recording")
    if mel.dim() != 2 or mel.shape[0] != wanted.n_mels:
        turned = "; it looks transposed" if mel.shape[-1:] == (wanted.n_mels,) else ""
        raise DataError(
            f"{printable(path)} has shape {tuple(mel.shape)}, wanted ({wanted.n_mels}, F){turned}"
        )
    if not bool(mel.isfinite().all()):
        raise DataError(f"{printable(path)} holds NaN or infinity")
    factors, summands = renormalize(wanted, found)
    return mel * torch.tensor(factors)[:, None] + torch.tensor(summands)[:, None]


def _array(path: Path) -> Tensor:
    try:
        with open(path, "rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
        array = torch.from_numpy(values.astype(np.float32, casting="same_kind"))
    except (OSError, ValueError, TypeError, EOFError, MemoryError) as error:
        raise DataError(f"{printable(path)} is no array of numbers: {printable(error)}") from None
    return array[0] if array.dim() == 3 and len(array) == 1 else array


def _named(path: Path, wanted: MelConfig, convention: str | None) -> MelConfig:
    if convention == "model":
        return wanted
    if convention is None:
        raise ConfigError(
            f"{printable(path)} does not say how it was made: name its convention, "
            f"mel_preset=NAME, one of {', '.join(sorted(MEL_PRESETS))}, or model for the "
            "model's own, normalised alike"
        )
    if convention not in MEL_PRESETS:
        known = nearest(convention, [*MEL_PRESETS, "model"])
        raise ConfigError(f"no mel convention {printable(convention)!r}{known}")
    return MEL_PRESETS[convention]


def _ours(path: Path) -> tuple[Tensor, MelConfig]:
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})[METADATA])
            mel: Tensor = file.get_tensor("mel")
        return mel.float(), from_dict(MelConfig, plain, "its convention")
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} is no mel of ours: {printable(error)}") from None
