"""JSON in which each key stands once: a second one would hide what another program reads."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds; bytes are UTF-8.

    Raises:
        ValueError: It is no JSON, is nested too deeply, or a key appears twice.
    """
    decoded = text if isinstance(text, str) else text.decode("utf-8")
    try:
        return json.loads(decoded, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return plain
