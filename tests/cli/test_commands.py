"""Every command on small data: prepare, train, interrupt, resume, evaluate, generate."""

import hashlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from tests.commands import Run
from tests.forks import CommandProcess
from tests.process_groups import assert_same_bits
from tests.waiting import wait_until
from wavenet.checkpoint import load
from wavenet.training.checkpointing import read_checkpoint

pytestmark = pytest.mark.slow

TRAIN = (
    "recipe=folder",
    "model=tiny",
    "model.dropout=0.1",
    "audio.sample_rate=8000",
    "data.test_fraction=0.2",
    "data.valid_fraction=0.2",
    "optim.lr=0.01",
    "optim.warmup_steps=5",
    "trainer.max_steps=20",
    "trainer.global_batch_size=4",
    "trainer.segment_length=200",
    "trainer.accumulate_grad_batches=2",
    "trainer.val_every_n_steps=10",
    "trainer.save_every_n_steps=10",
    "trainer.preview_seconds=0.05",
    "evaluation.sample_seconds=0.1",
    "evaluation.prompt_seconds=0.1",
)


def assert_same(one: Path, other: Path) -> None:
    assert_same_bits(one, other)
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (one, other)]
    assert hashlib.sha256(weights[0]).digest() == hashlib.sha256(weights[1]).digest()


@pytest.fixture(scope="module")
def trained(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained for two steps."""
    folder = tmp_path_factory.mktemp("trained")
    words = (*TRAIN, "trainer.max_steps=2", "evaluation.sample_seconds=0", "run_dir=first")
    done = CommandProcess(folder, "train", *words, f"data.root={recordings}").wait()
    assert done.returncode == 0, done.stderr
    return folder / "first" / "model"


def test_train_evaluate_benchmark_and_generate(run: Run, recordings: Path, tmp_path: Path) -> None:
    done = run("train", *TRAIN, f"data.root={recordings}", "run_dir=first", "license=MIT")

    assert done.returncode == 0, done.stderr
    first = tmp_path / "first"
    card = (first / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "| Evaluation: bits per sample ↓ |" in card
    assert "step 20: validation " in done.stderr
    assert "on the held-out test recordings, which no validation has used" in done.stderr
    assert "Held-out audio: 1 test clip, " in done.stderr
    assert "samples/s" in done.stderr
    assert "adaptive linear prediction" in done.stderr
    for name in ("report.html", "learning_curve.png", "model/config.json", "samples/continued.wav"):
        assert (first / name).is_file(), name
    page = (first / "report.html").read_text(encoding="utf-8")
    (command,) = re.findall("^next: (.+)$", done.stderr, flags=re.MULTILINE)
    assert f'<code>first</code></p>\n<p class="next">Next: <code>{command}</code>' in page
    assert list((first / "tensorboard").glob("events*"))

    evaluated = run("evaluate", "checkpoint=first/model")
    assert re.match(r"first/model: step \d+\n", evaluated.stderr), evaluated.stderr
    assert evaluated.returncode == 0, evaluated.stderr
    assert "adaptive linear prediction" in evaluated.stdout

    timed = run(
        "benchmark",
        "checkpoint=first/model",
        "num_threads=[1]",
        "batch_sizes=[1,2]",
        "repeats=1",
        "seconds=0.01",
        "bits_seconds=0.2",
        "measure_startup=false",
        "output=speed.png",
        "--json",
    )
    assert timed.returncode == 0, timed.stderr
    (measured,) = json.loads(timed.stdout)["models"]
    assert len(measured["measurements"]) == 1 + 2 * 3
    assert abs(measured["bits"]["int8"] - measured["bits"]["float32"]) < 0.05
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")

    names = "a b=c,#[ü].wav"
    generated = run("generate", "checkpoint=first/model", "seconds=0.05", f"output={names}")
    assert generated.returncode == 0, generated.stderr
    assert "samples/s, real-time factor " in generated.stdout
    info = soundfile.info(tmp_path / names)
    assert (info.frames, info.samplerate, info.subtype) == (400, 8000, "PCM_16")

    content = (tmp_path / names).read_bytes()
    again = run("generate", "checkpoint=first/model", f"output={names}")
    assert again.returncode == 2
    assert "overwrite=true" in again.stderr
    assert (tmp_path / names).read_bytes() == content

    taken = run("train", *TRAIN, f"data.root={recordings}", "run_dir=first")
    assert taken.returncode == 2
    assert "resume=first" in taken.stderr


def test_a_batch_continues_a_prompt(
    run: Run, trained: Path, recordings: Path, tmp_path: Path
) -> None:
    prompt = recordings / "tone-0.wav"

    done = run(
        *("generate", f"checkpoint={trained}", "seconds=0.05", "num_samples=2"),
        *(f"prompt={prompt}", "include_prompt=true"),
    )

    assert done.returncode == 0, done.stderr
    first, second = (soundfile.read(tmp_path / f"generated-{i}.wav")[0] for i in range(2))
    given = soundfile.read(prompt)[0]
    assert len(first) == len(given) + 400
    assert abs(first[: len(given)] - given).max() <= 1 / 32768
    assert (first[len(given) :] != second[len(given) :]).any()


STEADY = ("optim.lr_schedule=constant", "evaluation.sample_seconds=0")
# So many steps that a run is stopped before its end; the curve still has a point for every step.
LONG = "trainer.max_steps=999"


def start_and_wait_for_a_checkpoint(folder: Path, *arguments: str) -> CommandProcess:
    """Start a long training in another process; return once it has a checkpoint."""
    process = CommandProcess(folder.parent, "train", *arguments, LONG, f"run_dir={folder.name}")
    wait_until(
        lambda: not process.is_alive() or any(folder.glob("checkpoints/*.ckpt")),
        "training wrote no checkpoint",
    )
    return process


def end_after(folder: Path) -> int:
    """A step some steps after the last checkpoint of a run."""
    return max(int(path.stem.rpartition("-")[2]) for path in folder.glob("checkpoints/*.ckpt")) + 23


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGINT, 130, 0), (signal.SIGUSR1, 138, 2)]
)
def test_an_interrupted_run_resumes_to_the_same_bits(
    run: Run, recordings: Path, tmp_path: Path, number: signal.Signals, code: int, workers: int
) -> None:
    cut, arguments = tmp_path / "cut", (*TRAIN, *STEADY, f"data.root={recordings}")
    process = start_and_wait_for_a_checkpoint(
        cut, *arguments, "trainer.save_every_n_steps=7", f"trainer.num_workers={workers}"
    )

    process.signal(number)
    done = process.wait()

    assert done.returncode == code, done.stderr
    assert "wavenet-train resume=cut" in done.stdout
    assert "listen with: wavenet-generate cut/model\n" in done.stdout
    end = f"trainer.max_steps={end_after(cut)}"
    resumed = run("train", "resume=cut", end, f"trainer.num_workers={2 - workers}")
    assert resumed.returncode == 0, resumed.stderr
    assert run("train", *arguments, end, "run_dir=uncut").returncode == 0
    assert_same(tmp_path / "uncut", cut)


def test_a_killed_run_resumes_from_its_last_checkpoint(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    cut, arguments = tmp_path / "cut", (*TRAIN, *STEADY, f"data.root={recordings}")
    process = start_and_wait_for_a_checkpoint(cut, *arguments)
    process.signal(signal.SIGKILL)
    process.wait()
    for left in ("checkpoints/.step-00000040.ckpt.tmp-01234567", ".run.json.tmp-01234567"):
        (cut / left).touch()
    (cut / ".model.tmp-01234567").mkdir()
    (cut / ".notes.tmp-01234567").touch()

    end = f"trainer.max_steps={end_after(cut)}"
    assert run("train", "resume=cut", end).returncode == 0

    assert run("train", *arguments, end, "run_dir=uncut").returncode == 0
    assert_same(tmp_path / "uncut", cut)
    assert [path.name for path in cut.rglob(".*")] == [".notes.tmp-01234567"]


def test_a_finished_run_resumes_with_more_steps(run: Run, recordings: Path, tmp_path: Path) -> None:
    arguments = (*TRAIN, *STEADY, f"data.root={recordings}")
    assert run("train", *arguments, "run_dir=run", "trainer.max_steps=30").returncode == 0

    at_its_end = run("train", "resume=run")
    longer = "wavenet-train resume=run trainer.max_steps=300 optim.lr_schedule_steps=300"
    assert at_its_end.returncode == 0, at_its_end.stderr
    assert f"run is finished: step 30 was the last; longer: {longer}\n" in at_its_end.stderr
    done = run("train", "resume=run", "trainer.max_steps=40")

    assert done.returncode == 0, done.stderr
    assert "the learning rate" not in done.stderr, "it is constant"
    assert load(tmp_path / "run" / "model").training.steps in (10, 20, 30, 40)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["trainer"]["max_steps"] == 40


def test_a_finished_run_gets_a_report_that_is_missing_old_or_of_other_options(
    run: Run, recordings: Path
) -> None:
    assert run("train", *TRAIN, f"data.root={recordings}", "run_dir=run").returncode == 0
    report = Path("run/report.html")

    report.unlink()
    missing = run("train", "resume=run")
    assert report.is_file(), missing.stderr
    os.utime(report, (0, 0))
    old = run("train", "resume=run")
    assert report.stat().st_mtime > 0, old.stderr
    other = run("train", "resume=run", "evaluation.sample_seconds=0.2")
    written = report.stat()
    at_its_end = run("train", "resume=run")
    kept = report.stat()

    for done in (missing, old, other):
        assert done.returncode == 0, done.stderr
        assert "run is finished" not in done.stderr
        assert "evaluating the model" in done.stderr
    assert "run is finished" in at_its_end.stderr
    assert (kept.st_ino, kept.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_a_resumed_runs_learning_rate_holds_its_last_value(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    """More steps do not raise it again, unless a key asks for that; both numbers are logged."""
    rare = ("trainer.val_every_n_steps=40", "evaluation.sample_seconds=0")
    arguments = (*TRAIN, *rare, f"data.root={recordings}")
    assert run("train", *arguments, "run_dir=run", "trainer.max_steps=30").returncode == 0

    held = run("train", "resume=run", "trainer.max_steps=40")
    asked = run("train", "resume=run", "trainer.max_steps=80", "optim.lr_schedule_steps=80")

    assert "keeps its schedule of 30 steps, 0.0005 now and 0.0005 at the end" in held.stderr
    assert "optim.lr_schedule_steps=40 stretches it, 0.0023 now" in held.stderr
    asked_rates = (
        "is 0.0057 now and 0.0005 at the end, it was 0.0005: its schedule now has 80 steps"
    )
    assert asked_rates in asked.stderr
    optim = json.loads((tmp_path / "run" / "run.json").read_text())["optim"]
    assert optim["lr_schedule_steps"] == 80
    last = read_checkpoint(max((tmp_path / "run" / "checkpoints").glob("*.ckpt")))
    assert last["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.0005, rel=0.01)


def test_a_model_that_learns_nothing_is_reported(run: Run, recordings: Path) -> None:
    done = run(
        "train",
        *TRAIN,
        f"data.root={recordings}",
        "optim.lr=1e-12",
        "trainer.max_steps=107",  # 100 after the warm-up are due
        "trainer.val_every_n_steps=107",
        "trainer.save_every_n_steps=107",
        "trainer.accumulate_grad_batches=1",
        "evaluation.sample_seconds=0",
    )

    assert "has learnt nothing yet" in done.stderr
    assert "ln 256" in done.stderr


def test_benchmark_prints_a_table_and_draws_a_chart_for_each_size(run: Run, tmp_path: Path) -> None:
    done = run(
        "benchmark",
        "sizes=[small,medium]",
        "num_threads=[1,1000]",
        "batch_sizes=[1]",
        "weight_dtypes=[int8]",
        "repeats=2",
        "seconds=0.01",
        "measure_startup=false",
    )

    assert done.returncode == 0, done.stderr
    assert "small: 245,504 parameters" in done.stdout
    assert "larger num_threads are skipped" in done.stderr
    table = done.stdout.split("medium: ")[1].splitlines()
    assert table[1].split()[0] == "backend"
    assert [line.split()[:2] for line in table[2:4]] == [["reference", "float32"], ["cpu", "int8"]]
    for size in ("small", "medium"):
        assert (tmp_path / f"benchmark-{size}.png").read_bytes().startswith(b"\x89PNG")


def test_benchmark_train_measures_each_implementation_and_draws_a_chart(
    run: Run, tmp_path: Path
) -> None:
    done = run(
        "benchmark-train",
        "sizes=[small]",
        "batch_shapes=[1x500]",
        "precisions=[bf16-mixed]",
        "implementations=[baseline,fused_checkpointed]",
        "repeats=2",
        "seconds=0.01",
        "--json",
    )

    assert done.returncode == 0, done.stderr
    (size,) = json.loads(done.stdout)["models"]
    measurements = size["measurements"]
    found = [one["case"]["implementation"] for one in measurements]
    assert found == ["baseline", "fused_checkpointed"]
    assert measurements[0]["times_baseline"] == 1.0
    for one in measurements:
        assert len(one["rates"]) == 2
        assert min(one["rates"]) > 0
        assert 0 < one["share_of_limit"] < 1
        assert one["memory_mib"] is not None
    assert size["segments_read_per_second"]["500"] > 0
    assert "one process reads" in done.stderr
    assert (tmp_path / "benchmark-train.png").read_bytes().startswith(b"\x89PNG")


def test_benchmark_blocks_compares_both_stacks_with_the_textbook(run: Run) -> None:
    done = run(
        "benchmark-blocks",
        "batch_shapes=[1x8,1x8]",
        "passes=[training]",
        "precisions=[32-true]",
        "repeats=1",
        "seconds=0.01",
        "output=null",
        "--json",
    )

    assert done.returncode == 0, done.stderr
    stacks = json.loads(done.stdout)["models"]
    assert [stack["name"] for stack in stacks] == ["vits", "diffwave"]
    for stack in stacks:
        textbook, fused = stack["measurements"]
        assert textbook["times_baseline"] == 1.0
        assert fused["case"]["implementation"] == "fused"
        assert fused["times_baseline"] > 0


def test_each_stack_of_benchmark_blocks_has_a_batch_shape(run: Run) -> None:
    done = run("benchmark-blocks", "stacks=[vits]")

    assert done.returncode == 2
    assert "batch_shapes must have one entry per stack, 1, got 2" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_benchmark_blocks_names_a_gpu_that_is_not_there(run: Run) -> None:
    done = run("benchmark-blocks", "device=cuda", "output=null")

    assert done.returncode == 2
    assert "finds no GPU here" in done.stderr
    assert "Traceback" not in done.stderr


def test_batch_shapes_are_given_as_a_product(run: Run) -> None:
    done = run("benchmark-train", "batch_shapes=[1*16000]")

    assert done.returncode == 2
    assert "batch_shapes must be SEGMENTSxSAMPLES, such as 1x16000" in done.stderr


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("sizes=[XL]", "must be one of small, medium, large"),
        ("weight_dtypes=[float16]", "must be one of float32, bfloat16, int8"),
        ("num_threads=[1000]", "this machine has"),
        ("output=chart.jpg", "a .png file"),
    ],
)
def test_an_invalid_benchmark_exits_2(run: Run, argument: str, words: str) -> None:
    done = run("benchmark", argument)

    assert done.returncode == 2
    assert words in done.stderr


def test_generate_accepts_weight_dtype_and_num_threads(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    model = f"checkpoint={trained}"

    def generated(*arguments: str) -> bytes:
        done = run("generate", model, "seconds=0.1", "overwrite=true", *arguments)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "generated.wav").read_bytes()

    plain = generated("num_threads=1")
    assert generated() == plain
    assert generated("backend=reference") == plain
    assert len(generated("weight_dtype=int8")) == len(plain)
    slow = ("backend=reference", "weight_dtype=int8")
    refused = run("generate", model, "output=other.wav", *slow)
    assert refused.returncode == 2
    assert "use backend=cpu for weight_dtype=int8 (pip" in refused.stderr


def test_inspect_draws_and_prints_a_model(run: Run, tmp_path: Path) -> None:
    done = run("inspect", "model=tiny", "output=tree.png")

    assert done.returncode == 0, done.stderr
    assert "receptive field: 16 samples" in done.stdout
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")


def test_a_foreign_training_checkpoint_is_refused_with_advice(run: Run, recordings: Path) -> None:
    arguments = (*TRAIN, f"data.root={recordings}", "run_dir=a", "evaluation.sample_seconds=0")
    assert run("train", *arguments, "trainer.max_steps=1").returncode == 0
    path = Path("a/checkpoints/step-00000001.ckpt")
    its_own = read_checkpoint(path)
    weight = next(iter(its_own["model"]))
    wider = {**its_own["model"], weight: torch.rand(3)}
    others: list[tuple[Any, str]] = [
        ([1], "is not a training checkpoint"),
        ({"a": 1}, "is not a training checkpoint"),
        (
            {key: its_own[key] for key in its_own if key != "rng_states"},
            "is not a training checkpoint",
        ),
        (
            {**its_own, "model": wider},
            f"is of another run (model: {weight} is (3,) in it, expected",
        ),
        ({**its_own, "history": {}}, "is of another run (it has no history)"),
    ]

    for contents, words in others:
        torch.save(contents, path)
        done = run("train", "resume=a", "trainer.max_steps=2")
        assert done.returncode == 4
        assert words in done.stderr
        assert "remove it to continue from the previous one" in done.stderr
