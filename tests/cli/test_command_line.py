"""Errors of the command line, help and version."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch

import wavenet
from tests.commands import Done, Run, environment, run_here, run_in_one_process
from wavenet.cli.commands import COMMANDS
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_command
from wavenet.cli.words import known_keys
from wavenet.utils.dataclass_io import key_fields, nested_dataclass


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("trainer.max_stepz=3", "did you mean 'trainer.max_steps'"),
        ("modle=tiny", "did you mean 'model'"),
        ("model=tinny", "did you mean 'tiny'"),
        ("trainer.max_steps=abc", "must be a whole number, got 'abc'"),
        ("trainer.max_steps=1e3", "must be a whole number, got 1000.0 (float): write 1000\n"),
        ("trainer.max_steps=1:30", "must be a whole number"),
        ("seed=on", "must be a whole number"),
        ("optim.lr=-1", "lr must be positive"),
        ("+foo=1", "configs are closed"),
        ("~seed", "configs are closed"),
        ("seed=${oc.env:HOME}", "oc.env"),
        ("run_dir=", "names no path"),
        ("--data.rot=x", "did you mean 'data.root'"),
        ("--seed", "--seed has no value: write --seed VALUE, or seed=VALUE"),
        ("overwrite=true", "see --help all"),
        ("lr=1", "did you mean 'optim.lr'? See --help all"),
        ("audio=16000", "written audio.sample_rate=16000"),
        ("runs/demo", "write KEY=PATH, such as resume=runs/demo"),
        ("optim.lr=1,2", "optim.lr takes one value, got 1,2; a list is [1,2]; -m starts"),
        ("audio.sample_rate=0", "sample_rate must be from 1 to 768000, got 0"),
        ("name=../x", "name must be that of a folder in runs/"),
        ("name=", "name must be that of a folder in runs/"),
        ("trian", "'trian' has no key: write KEY=VALUE"),
        ("--hepl", "did you mean '--help'"),
        ("trainer=null", "must be a string"),
        ("trainer.val_seconds=1e300", "at most 1e+09"),
        ("evaluation.sample_seconds=1e300", "from 0 to 1e+09"),
        ("recipe=folder", "missing required key data.root: add data.root=FOLDER"),
        ("audio.score.midi_min=3", "audio.score={hop_length:VALUE,midi_min:VALUE}"),
    ],
)
def test_a_wrong_command_line_exits_2_before_any_work(run: Run, argument: str, words: str) -> None:
    done = run("train", argument)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 20


@pytest.mark.parametrize(
    ("verb", "argument", "words"),
    [
        ("prepare", "recordings/mine", "such as data.root=recordings/mine"),
        ("prepare", "recipe=demo", "recipe is a key of wavenet-train"),
        ("generate", "seconds=1,2", "seconds takes one value, got 1,2; a list is [1,2]\n"),
        ("inspect", "output=tree.jpg", "output must be a .png file"),
    ],
)
def test_a_wrong_word_of_another_command_exits_2(
    run: Run, verb: str, argument: str, words: str
) -> None:
    done = run(verb, argument)

    assert done.returncode == 2
    assert words in done.stderr


def test_a_key_of_a_mapping_that_is_set_to_null_names_the_mapping(run: Run) -> None:
    done = run("train", "model.local=null", "model.local.channels=3")

    assert done.returncode == 2
    assert done.stderr == (
        "ConfigError: model.local.channels: model.local is null or a mapping without it; "
        "give its keys together, such as model.local={channels:VALUE}\n"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_unavailable_device_is_refused_without_a_run(run: Run, recordings: Path) -> None:
    done = run("train", "recipe=folder", f"data.root={recordings}", "trainer.device=cuda")

    assert done.returncode == 2
    assert "trainer.device=cuda: PyTorch" in done.stderr
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_out_of_memory_exits_5(run: Run, recordings: Path) -> None:
    arguments = ("recipe=folder", "audio.sample_rate=8000", "model=tiny", f"data.root={recordings}")

    done = run(
        "train",
        *arguments,
        "trainer.segment_length=1000000000000000",
        "trainer.global_batch_size=1",
    )

    assert done.returncode == 5
    assert "MachineError: not enough memory" in done.stderr


def fail_to_allocate(options: Any, composed: Composed) -> None:
    torch.empty(2**56)


def fail_to_multiply(options: Any, composed: Composed) -> None:
    torch.ones(2, 3) @ torch.ones(2, 3)


def test_memory_that_torch_cannot_allocate_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["wavenet-inspect", "model=tiny"])

    with pytest.raises(SystemExit) as ended:
        run_command("inspect", fail_to_allocate)

    assert ended.value.code == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MachineError: not enough memory, use a smaller batch or model: ")


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(
    ("number", "code", "how"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_that_c_code_wraps_ends_the_command_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
    how: str,
) -> None:
    def in_c_code(options: Any, composed: Composed) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except BaseException as error:
            raise SystemError("returned a result with an exception set") from error

    monkeypatch.setattr("sys.argv", ["wavenet-inspect", "model=tiny"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background

    with pytest.raises(SystemExit) as ended:
        run_command("inspect", in_c_code)

    signal.signal(signal.SIGINT, before)
    assert ended.value.code == code
    assert capsys.readouterr().err == f"{how}; no partial files are left\n"


ENDS_INTERRUPTED = """
import atexit, os, signal, sys
from wavenet.cli.main import inspect

class Late:
    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGINT):
        kill(own, number)

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.torn_down = Late()
inspect()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("none=1", 2)])
def test_ctrl_c_after_the_end_of_a_command_leaves_its_exit_code(word: str, code: int) -> None:
    """It comes once as Python begins to end, and once as it has taken down its modules."""
    command = [sys.executable, "-c", ENDS_INTERRUPTED, word]

    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    assert done.returncode == code, done.stderr
    assert "KeyboardInterrupt" not in done.stderr


def test_another_error_of_torch_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["wavenet-inspect", "model=tiny"])

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_command("inspect", fail_to_multiply)


@pytest.mark.parametrize("key", ["audio.mel.n_fft", "audio.mel.mean.0"])
def test_a_key_of_a_mel_that_is_null_is_refused(run: Run, key: str) -> None:
    done = run("train", "recipe=demo_unconditional", f"{key}=3")

    assert done.returncode == 2
    assert f"{key}: audio.mel is null; choose a preset with audio.mel=NAME" in done.stderr


VERBS = [
    "prepare",
    "train",
    "generate",
    "evaluate",
    "benchmark",
    "benchmark-train",
    "benchmark-blocks",
    "inspect",
    "import",
    "push",
]


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_examples_and_keys(run: Run, verb: str) -> None:
    done = run(verb, "--help", "all")

    assert done.returncode == 0
    assert f"wavenet-{verb}" in done.stdout
    assert "debug: false # Show tracebacks of errors" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_a_screenful_of_examples_and_keys(run: Run, verb: str) -> None:
    shown, every_key = run(verb, "--help").stdout, run(verb, "--help", "all").stdout

    lines = shown.splitlines()
    assert len(lines) <= 60
    assert [line for line in lines if line.startswith(f"    wavenet-{verb}")]
    assert shown == every_key or f"wavenet-{verb} --help all lists every key" in shown


@pytest.mark.parametrize("topic", ["optim", "optim.lr", "recipe"])
def test_help_on_a_group_shows_its_choices_and_keys(run: Run, topic: str) -> None:
    found, every_key = run("train", "--help", topic).stdout, run("train", "-h", "all").stdout

    assert found.startswith(topic.partition(".")[0])
    assert found in every_key


@pytest.mark.parametrize(
    ("verb", "topic", "name"),
    [
        ("train", "optmi", "optim"),
        ("train", "optmi.lr", "optim"),
        ("generate", "secnds", "seconds"),
    ],
)
def test_help_on_an_unknown_group_names_the_nearest(
    run: Run, verb: str, topic: str, name: str
) -> None:
    done = run(verb, "--help", topic)

    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr == (
        f"ConfigError: no help on {topic.partition('.')[0]!r}, which is no group or key; did you "
        f"mean {name!r}?\n"
    )


@pytest.mark.parametrize("words", [("--help", "-m"), ("--help", "seconds=1"), ("a", "--help")])
def test_help_with_a_key_or_a_flag_is_the_short_help(run: Run, words: tuple[str, ...]) -> None:
    assert run("generate", *words) == run("generate", "--help")


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS if COMMANDS[verb].most_used])
def test_the_short_help_shows_keys_of_the_command(run: Run, verb: str) -> None:
    shown = run(verb, "--help").stdout

    assert {*COMMANDS[verb].most_used} <= {*known_keys(verb)}
    for key in COMMANDS[verb].most_used:
        assert f"  {key}: " in shown


@pytest.mark.parametrize(
    ("verb", "other"),
    [
        ("inspect", "model=small"),
        ("inspect", "audio.sample_rate=8000"),
        ("benchmark", "sizes=[small]"),
        ("benchmark", "conditioning=[mel]"),
    ],
)
def test_a_checkpoint_and_another_model_are_refused(run: Run, verb: str, other: str) -> None:
    done = run(verb, "demo_voice", other)

    key = other.partition("=")[0]
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr == (
        f"ConfigError: {key} is given, but checkpoint=demo_voice has its own: "
        "leave one of the two out\n"
    )


@pytest.mark.parametrize("verb", ["generate", "evaluate", "inspect"])
def test_the_first_example_of_help_names_the_model_alone(run: Run, verb: str) -> None:
    lines = run(verb, "--help").stdout.splitlines()
    examples = [line.split() for line in lines if line.startswith(f"    wavenet-{verb} ")]

    assert re.fullmatch("piano|runs/[a-z]+/model", examples[0][1])
    assert not any("checkpoint=" in word for example in examples for word in example)


def test_help_shows_choices_and_keys_with_range(run: Run) -> None:
    text = run("train", "--help", "all").stdout

    assert re.search(r"\* small +20 blocks of kernel 2", text)
    assert "  segment_length: 8192 # Samples of each segment in the loss" in text
    assert "  lr: 0.001 # Peak learning rate, reached after the warm-up (positive)" in text


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_key_of_a_command_has_help(verb: str) -> None:
    def without_help(cls: type) -> list[str]:
        fields = [*key_fields(cls)]
        inner = [one for one in (nested_dataclass(cls, field) for field in fields) if one]
        own = [f"{cls.__name__}.{field.name}" for field in fields if not field.metadata.get("help")]
        return [*own, *(name for one in inner for name in without_help(one))]

    assert not without_help(COMMANDS[verb].options)


LIGHT = [
    ("train", "--help"),
    ("train", "trainer.max_stepz=3"),
    ("train", "trainer.max_steps=abc"),
    ("train", "recipe=vocoder"),
    ("generate", "no_such_name"),
    ("evaluate", "no/such/model"),
    ("inspect", "."),
]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Done, list[str]]]:
    """What the commands of `LIGHT` do, and whether they import what takes long."""
    return run_in_one_process(tmp_path_factory.mktemp("light"), ("torch", "numpy"), LIGHT)


@pytest.mark.parametrize("number", range(len(LIGHT)), ids=["-".join(line) for line in LIGHT])
def test_help_and_typing_errors_import_neither_torch_nor_numpy(
    light: list[tuple[Done, list[str]]], number: int
) -> None:
    done, loaded = light[number]

    assert (done.returncode == 0) == ("--help" in LIGHT[number])
    assert loaded == [], done.stderr


def test_an_unknown_key_is_refused_before_hydra_is_imported(tmp_path: Path) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'hydra', 'omegaconf'} & set(sys.modules)))\n"
        "from wavenet.cli.main import train\n"
        "train()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "trainer.max_stepz=3"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == "set()\n"
    assert "did you mean 'trainer.max_steps'?" in done.stderr


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("train", "--version").stdout == f"torch-wavenet {wavenet.__version__}\n"


def test_missing_checkpoint_exits_4(run: Run) -> None:
    done = run("generate", "checkpoint=nothing")

    assert done.returncode == 4
    assert "there is no model directory nothing" in done.stderr


def test_a_path_without_a_model_exits_4(run: Run) -> None:
    (Path("run") / "model").mkdir(parents=True)
    (Path("run") / "model" / "config.json").touch()

    for name, words in {
        "no/such/model": "there is no model directory no/such/model",
        "nothing": "no model of that name; known: ",
        "run": "run is a run: its model directory is run/model",
        ".": "is no model directory: it has no config.json",
        "run/model/config.json": "is a file, not a model directory",
    }.items():
        done = run("inspect", name)
        assert done.returncode == 4
        assert words in done.stderr


def test_a_folder_without_audio_exits_3(run: Run) -> None:
    done = run("prepare", "data.root=.", "data.processed_dir=../prepared")

    assert done.returncode == 3


@pytest.mark.parametrize("shard", ["9/8", "0/8", "eighth"])
def test_invalid_shard_exits_2_with_an_example(run: Run, shard: str) -> None:
    done = run("prepare", "data.root=.", f"shard={shard}")

    assert done.returncode == 2
    assert f"got {shard!r}: the first of 8 jobs gets shard=1/8" in done.stderr


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("generate", "checkpoint=nothing", "debug=true").stderr


def test_a_package_that_is_missing_exits_5_with_its_extra(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['numpy'] = None\nfrom wavenet.cli.main import prepare\nprepare()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data.root=."],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 5
    assert "pip install 'torch-wavenet[" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_command_exits_with_its_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from wavenet.cli.main import train; train()", "model=tinny"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == "ConfigError: model=tinny: no such choice; did you mean 'tiny'?\n"


def test_choices_are_listed_without_the_base_of_the_group(run: Run) -> None:
    done = run("train", "optim=zzz")

    assert done.returncode == 2
    assert done.stderr == "ConfigError: optim=zzz: no such choice; known: adam, adamw\n"


@pytest.mark.parametrize(("given", "wanted"), [(None, "passive"), ("active", "active")])
def test_threads_wait_without_spinning_unless_the_user_wants_it(
    given: str | None,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")

    assert run_here("generate", ("--version",), capsys).returncode == 0

    assert os.environ["OMP_WAIT_POLICY"] == wanted


def test_ctrl_c_while_hydra_composes_is_answered_afterwards(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of it, OmegaConf would raise an error of its own."""
    compose, composed = hydra.compose, []

    def interrupted(*words: Any, **keys: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        composed.append(compose(*words, **keys))
        return composed[0]

    monkeypatch.setattr(hydra, "compose", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of tests ignore it

    try:
        done = run("generate")
    finally:
        signal.signal(signal.SIGINT, before)

    assert composed
    assert (done.returncode, done.stderr) == (130, "interrupted; no partial files are left\n")
