"""Wrong models for the importers: what a reader returned, and a config, with changes.

Names, shapes, dtypes and values of weights change, weights are missing or extra, and keys of the
config have other types and absurd sizes. `tests.faults.fuzz` runs it.
"""

import contextlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.interop.golden import GOLDEN, cases
from wavenet.interop import importing, read_torch
from wavenet.utils.errors import WavenetError

HUGE = 10**5000  # more digits than Python prints
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 24, 25, 255, 256, 257, 65536, 2**31, 2**63, 10**30),
    *(HUGE, 0.5, -0.0, 1e-320, 1e300, math.nan, math.inf, -math.inf, 1j, b"\xff"),
    *("", "raw", "mulaw", "mulaw-quantize", "Normal", "\x1b[2J", "a" * 100_000),
    *([], {}, [[]], [None], [0], [-1], [1, 2], [10**9] * 50, [2**40], {"a": {}}, [1] * 100_000),
)
SIZES = (0, 1, 2, 3, 5, 8, 10, 16, 255, 256, 257)
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
MAX_NUMEL = 1_000_000
LAUGHS = b"".join(  # each value has the one before ten times
    b"\na%d: &a%d [%s]" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10 if n else [b"lol"]))
    for n in range(20)
)
NUMBERS = (math.nan, math.inf, -math.inf, 0.0, 1e-45, 3e38, -1.0)


def change_name(weights: dict[str, Tensor], chance: random.Random) -> None:
    """Give a weight the name of another, or one that is near."""
    name = chance.choice(list(weights))
    number = str(chance.choice((0, 1, 7, 99, 10**9)))
    digits = [i for i, c in enumerate(name) if c.isdigit()]
    at = chance.choice(digits or [0])
    others = (name + "_g", name[:-1], f"module.{name}", "", "\x1b", name.replace("weight", "bias"))
    new = chance.choice((*others, name[:at] + number + name[at + 1 :], chance.choice([*weights])))
    weights[new] = weights.pop(name)


def zeros(like: Tensor, shape: list[int]) -> Tensor:
    """Return zeros of a shape, cut to what a file of some MB can hold."""
    while math.prod(shape) > MAX_NUMEL:
        shape[shape.index(max(shape))] //= 2
    return like.new_zeros(shape)


def change_tensor(weights: dict[str, Tensor], chance: random.Random) -> None:
    """Change the shape, dtype or numbers of a weight."""
    name = chance.choice(list(weights))
    tensor = weights[name]
    kind = chance.randrange(6)
    if kind == 0:
        shape = [chance.choice((*tensor.shape, *SIZES)) for _ in range(chance.randrange(5))]
        weights[name] = zeros(tensor, shape)
    elif kind == 1 and tensor.dim():
        axis = chance.randrange(tensor.dim())
        length = chance.choice((*tensor.shape, *SIZES))
        shape = [length if a == axis else size for a, size in enumerate(tensor.shape)]
        weights[name] = zeros(tensor, shape)
    elif kind == 2:
        weights[name] = tensor.to(chance.choice(DTYPES))
    elif kind == 3 and tensor.numel():
        weights[name] = tensor = tensor.clone()
        numbers = NUMBERS if tensor.is_floating_point() else (0, 1)  # of bool and uint8 too
        tensor.reshape(-1)[chance.randrange(tensor.numel())] = chance.choice(numbers)
    elif kind == 4:
        weights[name] = tensor.transpose(0, -1) if tensor.dim() else tensor.reshape(1)
    else:
        weights[name] = tensor.squeeze() if chance.random() < 0.5 else tensor.unsqueeze(-1)


def change_weights(weights: dict[str, Tensor], chance: random.Random) -> None:
    """Change, remove, add or share weights; all blocks from one on may be missing."""
    if not weights:
        return
    kind = chance.randrange(5)
    if kind == 0:
        change_name(weights, chance)
    elif kind in (1, 2):
        change_tensor(weights, chance)
    elif kind == 3:
        del weights[chance.choice(list(weights))]
    else:
        stem = chance.choice(list(weights)).split(".")[0]
        for name in [name for name in weights if name.startswith(stem)]:
            if chance.random() < 0.5:
                del weights[name]


def change_keys(keys: dict[Any, Any], chance: random.Random) -> None:
    """Change, remove or add keys of a config, or of a section in it."""
    sections = [value for value in keys.values() if isinstance(value, dict) and value]
    if sections and chance.random() < 0.5:
        change_keys(chance.choice(sections), chance)
    elif keys and chance.random() < 0.2:
        del keys[chance.choice(list(keys))]
    elif keys:
        keys[chance.choice(list(keys))] = chance.choice(VALUES)
    if chance.random() < 0.02:
        keys.clear()


def copied(value: Any) -> Any:
    """Return containers copied, with the same tensors."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


class ImporterFuzzer:
    """Changes golden models after they were read, and imports them; a seed makes one model.

    Args:
        folder: For configs, written one at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = [
            (file, *importing.read(GOLDEN / file), self.config(name))
            for name, file in cases(GOLDEN)
        ]

    @staticmethod
    def config(name: str) -> dict[Any, Any]:
        """Return the config of a golden model, of any form."""
        keys = json.loads((GOLDEN / f"{name}.json").read_text())
        conf = keys.get("conf")
        return read_torch(GOLDEN / conf) if conf else keys["config"] or {}

    def try_one(self, seed: int) -> str:
        """Return what became of model `seed`: "read" or "refused"."""
        chance = random.Random(seed)
        file, contents, tensors, steps, config = chance.choice(self.models)
        contents, tensors, config = copied(contents), dict(tensors), copied(config)
        changes: list[Callable[[], None]] = [
            lambda: change_weights(tensors, chance),
            lambda: change_keys(config, chance),
            lambda: change_keys(contents.get("model", contents), chance),
        ]
        for _ in range(chance.choice((1, 1, 2, 4))):
            chance.choices(changes, (4, 4, 1))[0]()
        given: Any = config
        if chance.random() < 0.2:
            given = self.written(config, chance)
        try:
            importing.convert(
                GOLDEN / file,
                importing.ReadFile(contents, tensors, steps),
                kind=chance.choice((None, None, None, *importing.KINDS)),
                config=given,
                sample_rate=chance.choice((None, 8000, 8000, 22050)),
                mean=chance.choice((None, None, [0.0], [math.nan], [1.0, 2.0], [])),
                std=chance.choice((None, None, [1.0], [0.0])),
            )
        except WavenetError as error:
            if len(str(error)) > 3000:
                raise ValueError(f"a message of {len(str(error))} characters") from error
            return "refused"
        return "read"

    def written(self, config: dict[Any, Any], chance: random.Random) -> Path:
        """Return a file with a config, its bytes changed too."""
        text = "*a"
        with contextlib.suppress(ValueError):  # of HUGE
            text = json.dumps(config, default=repr, skipkeys=True)
        data = bytearray(text.encode())
        for _ in range(chance.choice((0, 1, 3))):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.choice((0, 1, 8))] = chance.choice(
                (
                    b"{",
                    b"}",
                    b"&a [*a]",
                    LAUGHS,
                    b"!!python/name:os.system",
                    b"[" * 5000,
                    b"1e999",
                    b"\0",
                    b"-",
                )
            )
        path = self.folder / chance.choice(("config.json", "config.yaml"))
        path.write_bytes(data)
        return path
