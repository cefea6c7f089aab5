"""An interpreter of pickles that imports no module and calls nothing.

Python's own loader resolves each name that a pickle holds and calls it, so a pickle is a program.
Here a name stays text, a call stays a record of the name and its arguments, and only numbers,
text, lists and these records are built. `pickletools` of the standard library decodes the opcodes.

`wavenet.interop.torch_file` gives the records of tensors, dictionaries and modules their meaning.
"""

import io
import pickletools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from wavenet.utils.errors import CheckpointError, printable

MAX_PICKLE_BYTES = 8 << 20  # modules with source text and optimizer have some 100 kB
MAX_OPCODES = 500_000  # a model of 30 blocks with its optimizer has 30,000
MAX_LINE_BYTES = 4096
MAX_NAME = 256
MAX_INTEGER_BITS = 128
PROTOCOLS = range(2, 6)

# Calls of the standard library that describe data. A file with any other one is refused.
_HARMLESS = {
    "_codecs": "encode",
    "argparse": "Namespace",
    "builtins": "bytearray complex dict frozenset getattr list object range set slice tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "__newobj__ _reconstructor",
    "datetime": "date datetime timedelta",
    "functools": "partial",
    "pathlib": "PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "PosixPath WindowsPath",
    "types": "SimpleNamespace",
}
HARMLESS_CALLS = {f"{module}.{x}" for module, names in _HARMLESS.items() for x in names.split()}
PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

PUSHING = {  # opcodes whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class Name(str):
    """A name that a pickle refers to, `module.attribute`. It is never resolved."""

    __slots__ = ()


DICT = Name("dict")  # of a plain dictionary, which is no call


class Call:
    """A call or a new object that a pickle asks for. Nothing is called.

    Attributes:
        name: What would be called: a function or a class, or `DICT`.
        args: Arguments.
        pairs: Keys and values in turn, for a mapping.
        items: What was appended, for a sequence.
        state: What the attributes would be set from.
    """

    __slots__ = ("args", "items", "name", "pairs", "state")

    def __init__(self, name: Name, args: list[Any]) -> None:
        self.name = name
        self.args = args
        self.pairs: list[Any] = []
        self.items: list[Any] = []
        self.state: Any = None


class Persistent(NamedTuple):
    """Data outside the pickle, by an identifier that the pickle's writer chose."""

    identifier: list[Any]


class PickleReader(io.BytesIO):
    """Bytes of one or more pickles; lines are limited, so a name or number cannot be huge."""

    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(MAX_LINE_BYTES)


def read_pickle(file: PickleReader) -> tuple[Any, list[Persistent]]:
    """Read one pickle, up to and including its STOP.

    Returns:
        Its value, made of None, bool, int, float, str, bytes, list (also for tuples and sets),
        `Name`, `Call` and `Persistent`, which may contain itself; and all its `Persistent`.

    Raises:
        CheckpointError: It is damaged, past a limit, of protocol 0 or 1, or calls a function of
            the standard library that no data needs.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if (count == 0) != (opcode.name == "PROTO"):
                raise ValueError(f"opcode {opcode.name} at {count}")
            if count > MAX_OPCODES:
                raise CheckpointError(
                    f"has a pickle of more than {MAX_OPCODES:,} opcodes: save its state dict alone"
                )
            machine.run(opcode.name, argument)
        (value,) = machine.stack
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"is no complete pickle of protocol 2 to 5 ({printable(error)}): copy the file again"
        ) from error
    return value, machine.persistent


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.persistent: list[Persistent] = []

    def run(self, opcode: str, argument: Any) -> None:
        if opcode not in PUSHING:
            OPERATIONS[opcode](self, argument)
            return
        if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
            raise ValueError("an integer is too large")
        self.stack.append(argument)

    def check_protocol(self, protocol: int) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol}")

    def pop_to_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError("the stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def push_name(self, module: str, attribute: str) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise TypeError("a name is no text")
        if len(module) + len(attribute) > MAX_NAME:
            raise ValueError("a name is too long")
        self.stack.append(Name(f"{PYTHON_2_MODULES.get(module, module)}.{attribute}"))

    def push_call(self, name: Any, args: Any, *, new_object: bool = False) -> None:
        if not isinstance(name, Name):
            raise TypeError(f"a call of {type(name).__name__}")
        if not isinstance(args, list):
            raise TypeError(f"arguments in {type(args).__name__}")
        if not new_object and not _is_harmless(name):
            raise CheckpointError(
                f"calls {printable(name)} when Python's pickle loads it, which no model needs; "
                "nothing was run: do not load this file elsewhere, get the model from a source "
                "you trust"
            )
        self.stack.append(Call(name, args))

    def push_persistent(self) -> None:
        (identifier,) = self.pop(1)
        if not isinstance(identifier, list):
            raise TypeError("an identifier is no tuple")
        if identifier[0] == "module":  # a class with its source text
            self.stack.append(_typed(identifier[1], Name))
            return
        self.persistent.append(Persistent(identifier))
        self.stack.append(self.persistent[-1])

    def new_object(self, count: int) -> None:
        name, args = self.pop(count)[:2]  # the third are keyword arguments
        self.push_call(name, args, new_object=True)

    def push_mapping(self, pairs: list[Any]) -> None:
        self.stack.append(Call(DICT, []))
        self.set_items(pairs)

    def set_items(self, pairs: list[Any]) -> None:
        if len(pairs) % 2:
            raise ValueError("a key has no value")
        _typed(self.stack[-1], Call).pairs.extend(pairs)

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target if isinstance(target, list) else _typed(target, Call).items).extend(items)

    def build(self) -> None:
        (state,) = self.pop(1)
        _typed(self.stack[-1], Call).state = state


def _is_harmless(name: Name) -> bool:
    """Return whether a call of `name` describes data, or is one of a package's own."""
    from_library = name.partition(".")[0] in sys.stdlib_module_names
    return not from_library or name in HARMLESS_CALLS


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda m, argument: m.check_protocol(argument),
    "FRAME": lambda m, _: None,
    "STOP": lambda m, _: None,
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(1),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append([]),
    "EMPTY_SET": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.push_mapping([]),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m, _: m.stack.append(m.pop_to_mark()),
    "FROZENSET": lambda m, _: m.stack.append(m.pop_to_mark()),
    "DICT": lambda m, _: m.push_mapping(m.pop_to_mark()),
    "TUPLE1": lambda m, _: m.stack.append(m.pop(1)),
    "TUPLE2": lambda m, _: m.stack.append(m.pop(2)),
    "TUPLE3": lambda m, _: m.stack.append(m.pop(3)),
    "APPEND": lambda m, _: m.append(m.pop(1)),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "BINPUT": lambda m, index: m.memo.update({index: m.stack[-1]}),
    "LONG_BINPUT": lambda m, index: m.memo.update({index: m.stack[-1]}),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "GLOBAL": lambda m, argument: m.push_name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.push_name(*m.pop(2)),
    "REDUCE": lambda m, _: m.push_call(*m.pop(2)),
    "NEWOBJ": lambda m, _: m.new_object(2),
    "NEWOBJ_EX": lambda m, _: m.new_object(3),
    "OBJ": lambda m, _: (lambda items: m.push_call(items[0], items[1:]))(m.pop_to_mark()),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.push_persistent(),
}
