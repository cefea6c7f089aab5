"""Changes of files: bytes, lengths and order; values of JSON."""

import random
from typing import Any

EXTREMES = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 256, 65536, 2**31, 2**63, 10**30, 10**4000),
    *(0.5, -0.0, 1e-320, 1e300, float("nan"), float("inf"), "", "\x1b[2J\n", "\ud800", "é" * 300),
    *("../../etc/passwd", "/dev/zero", "a" * 20_000, [], {}, [[]], [None], [1] * 5000, [10**9]),
    *([2**24] * 1000, {"a": {}}, {"__metadata__": {}}),
)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return `data` after one to four changes of bytes, lengths or order."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        at = chance.randrange(len(changed))
        length = min(chance.choice((1, 2, 4, 8, 64, 1024)), len(changed) - at)
        kind = chance.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at : at + length] = chance.randbytes(length)
        elif kind == 2:
            changed[at:at] = chance.randbytes(length)
        elif kind == 3:
            del changed[at : at + length if chance.random() < 0.5 else None]
        elif kind == 4:
            changed[at:at] = changed[at : at + length] * chance.choice((1, 2, 100))
        else:
            number = chance.choice(EXTREMES).to_bytes(8, "little")[: chance.choice((1, 2, 4, 8))]
            changed[at : at + len(number)] = number
    return bytes(changed)


def change_json(value: Any, chance: random.Random) -> Any:
    """Return plain data with one value replaced, removed, repeated or added, at any depth."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        if kind < 0.15:
            return {**value, chance.choice(("x", "", "_target_", key + " ")): value[key]}
        return {**value, key: change_json(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value * chance.choice((0, 2, 50))
        return [*value[:at], change_json(value[at], chance), *value[at + 1 :]]
    if type(value) in (int, float) and chance.random() < 0.5:
        return chance.choice((value + 1, value * 2, -value, value * 10**6, value / 3, str(value)))
    return chance.choice(JSON_VALUES)
