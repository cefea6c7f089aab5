"""The records of a pickle as plain values and tensors.

A checkpoint refers to the same list many times or contains itself if its writer wants, so the
number of values, their depth and the bytes of all tensors are limited.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.interop.opcodes import DICT, Call, Name, Persistent
from wavenet.utils.errors import CheckpointError, printable

MAX_VALUES = 500_000
MAX_DEPTH = 100
MAX_DIMENSIONS = 8
MAX_NUMEL = 1 << 40
MAX_SHARING = 8  # bytes of all tensors, in sizes of the file; shared ones are counted each time

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"  # (function, type, args, attributes)
MAPPINGS = {DICT, "builtins.dict", "collections.OrderedDict", "collections.Counter"}
FIRST_ARGUMENT = {  # what stands for its first argument
    *("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"),
    *("torch.nn.parameter.Parameter", "torch.autograd.variable.Variable", "torch.Size"),
    *("builtins.set", "builtins.frozenset", "builtins.list", "builtins.tuple"),
    "_codecs.encode",  # bytes in protocol 2; they are read as text
}
MAX_KEY_BYTES = 256
MAX_KEY = 2**61 - 1  # larger integers may have equal hashes


class Storage(NamedTuple):
    """The numbers that tensors view: key in the file, dtype, length, and the part that is meant."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int
    stop: int


def storage_of(persistent: Persistent) -> Storage:
    """Return the storage that `("storage", kind, key, location, numel[, view])` describes.

    `view` is None or `(key, offset, length)`: a part of the storage.
    """
    fields = persistent.identifier
    if len(fields) not in (5, 6) or fields[0] != "storage" or not isinstance(fields[1], Name):
        raise CheckpointError("refers to data that is no storage: copy it again")
    _, kind, key, _, numel, *views = fields
    module, _, name = kind.rpartition(".")
    if module not in ("torch", "torch.cuda") or name not in DTYPES:
        raise CheckpointError(
            f"has a storage of kind {printable(kind)}, which is not read: save the state dict with "
            "its tensors converted to float32"
        )
    (numel,) = _sizes([numel])
    start, length = (0, numel)
    if views and views[0] is not None:
        is_view = isinstance(views[0], list) and len(views[0]) == 3
        start, length = _sizes(views[0][1:] if is_view else None, 2)
    if not isinstance(key, str) or start + length > numel:
        raise CheckpointError("is damaged in the description of a storage: copy it again")
    return Storage(key, DTYPES[name], numel, start, start + length)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_NUMEL


def is_shape(size: list[int]) -> bool:
    """Return whether torch has tensors of this shape, also of those without numbers."""
    return len(size) <= MAX_DIMENSIONS and math.prod(max(n, 1) for n in size) < MAX_NUMEL


def _sizes(values: Any, count: int | None = None) -> list[int]:
    """Return `values` if they are integers of 0 or more, `count` of them if given."""
    plain = isinstance(values, list) and all(map(_is_size, values))
    if not plain or count not in (None, len(values)):
        raise CheckpointError("is damaged in the sizes of a tensor: copy it again")
    return list(values)


class Contents:
    """Makes plain values of what `read_pickle` returned.

    Args:
        read_storage: Returns the numbers of a storage, `(numel,)`, by key, dtype and length.
        file_size: Bytes of the file.
    """

    def __init__(
        self, read_storage: Callable[[str, torch.dtype, int], Tensor], file_size: int
    ) -> None:
        self.read_storage = read_storage
        self.unread_bytes = file_size
        self.tensor_bytes = MAX_SHARING * file_size
        self.values = MAX_VALUES
        self.storages: dict[str, Tensor] = {}
        self.tensors: dict[int, tuple[Call, Tensor]] = {}  # by identity of the call
        self.path: set[int] = set()  # containers that enclose the present one

    def to_dict(self, value: Any) -> dict[str, Any]:
        """Return `value`, a mapping or an object, as a dict."""
        plain = self.plain(value)
        if not isinstance(plain, dict):
            raise CheckpointError(
                f"holds a {type(plain).__name__}, expected a dict or a module: save a state dict"
            )
        return plain

    def count(self, values: int) -> None:
        self.values -= values
        if self.values < 0:
            raise CheckpointError(
                f"holds more than {MAX_VALUES:,} values: save its state dict alone"
            )

    def plain(self, value: Any) -> Any:
        self.count(1)
        if isinstance(value, Name):
            return str(value)
        if isinstance(value, Persistent):
            storage = storage_of(value)
            return self.counted(self.view(value, 0, [storage.stop - storage.start], [1]))
        if not isinstance(value, list | Call):
            return value
        if id(value) in self.path:
            return None
        if len(self.path) >= MAX_DEPTH:
            raise CheckpointError(
                f"is nested more than {MAX_DEPTH} deep: save its state dict alone"
            )
        self.path.add(id(value))
        try:
            return self.container(value)
        finally:
            self.path.remove(id(value))

    def container(self, value: "list[Any] | Call") -> Any:
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if value.name in TENSORS:
            return self.tensor(value)
        if value.name in FIRST_ARGUMENT:
            return self.plain(value.args[0] if value.args else [])
        if value.name in MAPPINGS:
            return self.mapping(_pairs(value.args[:1]) + value.pairs)
        if value.name == "collections.defaultdict":
            return self.mapping(value.pairs)
        if value.name == WITH_ATTRIBUTES and len(value.args) > 2:
            function, _, args = value.args[:3]
            if isinstance(function, Name) and isinstance(args, list):
                return self.plain(Call(function, args))
        if value.name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")):
            raise CheckpointError(
                f"has a tensor made by {printable(value.name)}, which is not read: save the state "
                "dict with dense tensors of numbers"
            )
        return self.object(value)

    def mapping(self, pairs: list[Any]) -> dict[Any, Any]:
        """Return a dict; an entry whose key is not text, a number or None is left out."""
        self.count(len(pairs) // 2)
        plain = {}
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, bytes) and len(key) <= MAX_KEY_BYTES:
                key = key.decode("latin-1")
            if type(key) is int and abs(key) >= MAX_KEY:
                continue
            if key is None or isinstance(key, str | int | float):
                plain[str(key) if isinstance(key, Name) else key] = self.plain(value)
        return plain

    def object(self, value: Call) -> dict[Any, Any]:
        """Return the attributes of an object, and its class's name."""
        self.count(4)  # a dict with a name is larger than another value
        name, args = value.name, value.args
        if name in ("copyreg._reconstructor", "copyreg.__newobj__") and args:
            made, args = args[0], args[3:]
            name = made if isinstance(made, Name) else name
        plain = self.mapping(value.pairs)
        has_slots = isinstance(value.state, list) and len(value.state) == 2
        states = value.state if has_slots else [value.state]  # attributes, and those in slots
        states = [state for state in states if state is not None]
        if all(isinstance(state, Call) and state.name in MAPPINGS for state in states):
            for state in states:
                plain |= self.plain(state) or {}
        else:
            plain["__state__"] = self.plain(value.state)
        if args:
            plain["__args__"] = self.plain(args)
        if value.items:
            plain["__items__"] = self.plain(value.items)
        plain["__class__"] = str(name)
        return plain

    def tensor(self, value: Call) -> Tensor:
        """Return the tensor of `(storage, offset, size, stride, ...)`."""
        if len(value.args) < 4 or not isinstance(value.args[0], Persistent):
            raise CheckpointError("is damaged: a tensor has no storage: copy it again")
        if id(value) not in self.tensors:
            self.tensors[id(value)] = value, self.view(*value.args[:4])
        return self.counted(self.tensors[id(value)][1])

    def counted(self, tensor: Tensor) -> Tensor:
        self.tensor_bytes -= tensor.numel() * tensor.itemsize
        if self.tensor_bytes < 0:
            raise CheckpointError(
                f"has tensors of more than {MAX_SHARING} times its own size: save its state dict "
                "alone"
            )
        return tensor

    def view(self, persistent: Persistent, offset: Any, size: Any, stride: Any) -> Tensor:
        storage = storage_of(persistent)
        size, stride, (offset,) = _sizes(size), _sizes(stride), _sizes([offset])
        length = storage.stop - storage.start
        numel = math.prod(size) if is_shape(size) else math.inf
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
        if len(size) != len(stride) or numel > length or (numel and last >= length):
            raise CheckpointError(
                f"has a tensor of size {size[:MAX_DIMENSIONS]}, stride {stride[:MAX_DIMENSIONS]}, "
                f"offset {offset} in a storage of {length} numbers, which it does not fit: copy it "
                "again"
            )
        if not numel:
            return torch.empty(size, dtype=storage.dtype)
        return self.numbers(storage).as_strided(size, stride, storage.start + offset)

    def numbers(self, storage: Storage) -> Tensor:
        flat = self.storages.get(storage.key)
        if flat is None:
            self.unread_bytes -= storage.numel * storage.dtype.itemsize
            if self.unread_bytes < 0:
                raise CheckpointError("has storages larger than the file: copy it again")
            flat = self.read_storage(storage.key, storage.dtype, storage.numel)
            self.storages[storage.key] = flat
        if flat.dtype != storage.dtype or len(flat) != storage.numel:
            raise CheckpointError(
                f"describes storage {printable(storage.key)} in two ways: copy it again"
            )
        return flat


def _pairs(args: list[Any]) -> list[Any]:
    """Return keys and values in turn, of the argument that a dict is made from."""
    if not args:
        return []
    if isinstance(args[0], Call):
        return args[0].pairs
    if not isinstance(args[0], list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in args[0]
    ):
        raise CheckpointError("is damaged: a dict is made of other than pairs: copy it again")
    return [item for pair in args[0] for item in pair]
