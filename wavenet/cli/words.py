"""Words of a command line: a positional model and `--key value` become KEY=VALUE; typing errors.

Nothing here imports Hydra, which takes longer than everything before it.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wavenet.cli.commands import COMMANDS
from wavenet.model_directory import CONFIG, folders_by_name
from wavenet.utils.dataclass_io import key_fields, nested_dataclass, type_hints
from wavenet.utils.errors import ConfigError, printable
from wavenet.utils.renamed import renamed_word

FLAGS = (  # Hydra's, and --json
    *("--help", "--version", "--json", "--multirun", "--run", "--cfg", "--resolve", "--package"),
    *("--info", "--hydra-help", "--config-dir", "--config-name", "--config-path"),
    *("--shell-completion", "--experimental-rerun"),
)
FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn"),
    *("--config-path", "-cp", "--experimental-rerun", "--info", "-i"),
)
POSITIONAL = {  # key of a first word without one
    **dict.fromkeys(("generate", "evaluate", "benchmark", "inspect", "push"), "checkpoint"),
    "import": "source",
}
SECOND = {  # what a second word without a key may be meant as
    "generate": "input={word} to generate from it, or output={word} to write it",
    "evaluate": "data.root={word} for the recordings",
    "inspect": "output={word} for a chart",
    "push": "repo={word}",
    "import": "output={word} for the model directory to write",
}
TRAIN_GROUPS = ("recipe", "launcher", "sweeper")  # of Hydra, without a dataclass
USUAL_PATH = {"train": "resume", "prepare": "data.root"}  # key of a path that has none
NAMES_ELSEWHERE = {  # what other projects call a key: the keys that it may be, best first
    **dict.fromkeys(
        ("output_dir", "out_dir", "save_dir", "log_dir", "exp_dir", "checkpoint_dir"),
        ("run_dir", "output", "data.processed_dir"),
    ),
    **dict.fromkeys(
        ("data_dir", "dataset", "input_dir", "input"), ("data.root", "source", "input")
    ),
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs"), ("trainer.max_steps",)),
    **dict.fromkeys(("duration", "length", "num_seconds"), ("seconds",)),
    **dict.fromkeys(("model", "model_path", "ckpt", "ckpt_path"), ("checkpoint",)),
    **dict.fromkeys(("gpus", "cuda", "accelerator"), ("trainer.device", "device")),
    "learning_rate": ("optim.lr",),
    "sample_rate": ("audio.sample_rate",),
}
MAX_NEAREST = 5
LIKE = 0.6  # least similarity of a key that is suggested alone
SOMEWHAT_LIKE = 0.5  # of one that is listed
ABOUT_AS_LIKE = 0.1  # below the best


def as_overrides(verb: str, words: Iterable[str]) -> list[str]:
    """Return the words of a command line as KEY=VALUE, flags of Hydra unchanged.

    `wavenet-generate MODEL` is `checkpoint=MODEL`; `--key value` and `--key=value` are `key=value`,
    `--key` alone is `key=true` where the key is a boolean.

    Raises:
        ConfigError: There is no such key, its value is missing, or there are two models.
    """
    left, done = list(words), []
    positional, models = POSITIONAL.get(verb), []
    while left:
        word = left.pop(0)
        if word == "--json":
            done.append("json=true")
        elif word in FLAGS_WITH_VALUE:
            done += [word, *left[:1]]
            del left[:1]
        elif word.startswith("--") and word.partition("=")[0] not in FLAGS:
            done.append(_override(verb, word, left))
        elif positional is not None and _is_model(verb, word):
            models.append(word)
            done.append(f"{positional}={word}")
        else:
            done.append(word)
    if positional is not None and models:
        _check_one_model(verb, positional, models, done)
    return done


def _check_one_model(verb: str, key: str, models: list[str], words: list[str]) -> None:
    """Raise a `ConfigError` for a model without a key where there is another, with or without."""
    with_key = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    if len(with_key) == 1:
        return
    given = [model for model in with_key if model not in models]
    taken = (given or [*filter(_is_there, models)] or models)[0]
    word = next((model for model in models if model != taken), taken)
    meant = SECOND.get(verb, "KEY=VALUE (--help all lists keys)").format(word=printable(word))
    if word in known_keys(verb):
        meant = f"{word}={'true' if word in _boolean_keys(verb) else 'VALUE'}"
    name = {"checkpoint": "model"}.get(key, key)
    raise ConfigError(
        f"{printable(word)!r} has no key, and {printable(taken)} is the {name} "
        f"({key}={printable(taken)}): write {meant}"
    )


def _is_there(model: str) -> bool:
    return (Path(model) / CONFIG).is_file() or model in folders_by_name()


def _override(verb: str, word: str, left: list[str]) -> str:
    """Return `--key value` as `key=value`; a value that is its own word is taken from `left`."""
    name, equals, value = word.partition("=")
    key = name[2:].replace("-", "_")
    if equals:
        _check_option(verb, name, key, f"{key}=")
        return f"{key}={value}"
    _check_option(verb, name, key, f"{key}={left[0] if left else ''}")
    if key in _boolean_keys(verb):
        return f"{key}={left.pop(0) if left[:1] in (['true'], ['false']) else 'true'}"
    if not left or left[0].startswith("--"):
        raise ConfigError(f"{name} has no value: write {name} VALUE, or {key}=VALUE")
    return f"{key}={left.pop(0)}"


def _check_option(verb: str, name: str, key: str, word: str) -> None:
    known = known_keys(verb)
    if _without_indices(key) not in known and renamed_word(verb, word) is None:
        near = nearest_keys(key, [*known, *FLAGS])
        raise ConfigError(f"unknown {printable(name)!r}{near}")


def _is_model(verb: str, word: str) -> bool:
    key, equals, _ = word.partition("=")
    if not word or word.startswith(("-", "+", "~")) or renamed_word(verb, word) is not None:
        return False
    return not equals or ("/" in key and Path(word).exists())


def check_words(verb: str, arguments: Iterable[str]) -> None:
    """Refuse renamed words, unknown keys, and words that Hydra would misunderstand.

    Hydra would find an unknown key too, but importing it takes longer than everything before.

    Raises:
        ConfigError: A word has an old name or an unknown key, adds or removes a key, or has none.
    """
    known = known_keys(verb)
    for argument in arguments:
        new = renamed_word(verb, argument)
        if new is not None:
            raise ConfigError(f"{printable(argument)!r}: renamed to {new}")
        if argument.startswith(("+", "~")):
            raise ConfigError(
                f"{printable(argument)!r}: configs are closed, no key can be added or removed; "
                "use KEY=VALUE with a known key (--help all lists them)"
            )
        if "/" in argument and "=" not in argument:
            such = (
                f", such as {USUAL_PATH[verb]}={printable(argument)}" if verb in USUAL_PATH else ""
            )
            raise ConfigError(f"{printable(argument)!r} has no key: write KEY=PATH{such}")
        if re.fullmatch(r"audio=\d+", argument):
            rate = argument.partition("=")[2]
            raise ConfigError(f"{argument}: a sample rate is written audio.sample_rate={rate}")
        name, equals, _ = argument.partition("=")
        key = re.fullmatch(r"(?!hydra\b)([a-z][\w.]*?)(\.\d+)*", name)  # with indices of a list
        if equals and name in TRAIN_GROUPS and name not in known:
            raise ConfigError(f"{name} is a key of wavenet-train, which prepares the data first")
        if equals and key and key[1] not in known:
            raise ConfigError(f"unknown key {name!r}{nearest_keys(name, known)}")


def known_keys(verb: str) -> list[str]:
    """Return the dotted keys and the groups of a command."""
    keys = [key for key, _ in _keys_and_types(COMMANDS[verb].options)]
    return [*keys, *(TRAIN_GROUPS if verb == "train" else ())]


def nearest_keys(key: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` for the keys most like `key`, and at most `MAX_NEAREST`.

    A part of a key counts as like it: `temp` is `temperature`, `lr` is `optim.lr`. What other
    projects call a key counts as the key: `output_dir` is `run_dir`, or `output`.
    """
    likeness = {name: _likeness(key.lower(), name) for name in known}
    usual = next((name for name in NAMES_ELSEWHERE.get(key.lower(), ()) if name in known), None)
    if usual is not None:
        likeness[usual] = 2.0  # more than any other
    ranked = sorted(known, key=lambda name: (-likeness[name], len(name), name))[:MAX_NEAREST]
    best = likeness[ranked[0]]
    if best < LIKE:
        near = [name for name in ranked if likeness[name] >= SOMEWHAT_LIKE]
        such = f"; the nearest: {', '.join(near)}" if near else ""
        return f"{such}; see --help all"
    close = [name for name in ranked if likeness[name] >= max(LIKE, best - ABOUT_AS_LIKE)]
    *others, last = [repr(name) for name in close]
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}? See --help all"


def _likeness(key: str, name: str) -> float:
    """Return 0 to 1: how alike two keys are, or a key and the last part of another."""
    leaf, given = name.rpartition(".")[2], key.rpartition(".")[2]
    ratio = difflib.SequenceMatcher(None, key, name).ratio()
    if "." not in key:
        ratio = max(ratio, difflib.SequenceMatcher(None, key, leaf).ratio())
    if given == leaf:
        return max(ratio, 0.95)
    share = len(given) / len(leaf)
    if len(given) > 1 and leaf.startswith(given):
        return max(ratio, 0.8 + 0.15 * share)
    if len(given) > 2 and given in leaf:
        return max(ratio, 0.7 + 0.15 * share)
    return ratio


def _boolean_keys(verb: str) -> set[str]:
    return {key for key, hint in _keys_and_types(COMMANDS[verb].options) if hint is bool}


def _without_indices(key: str) -> str:
    return re.sub(r"(\.\d+)+$", "", key)


def _keys_and_types(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key of a command's options with the type of its value."""
    hints = type_hints(cls)
    for field in key_fields(cls):
        yield prefix + field.name, hints[field.name]
        inner = nested_dataclass(cls, field)
        if inner is not None:
            yield from _keys_and_types(inner, f"{prefix}{field.name}.")
