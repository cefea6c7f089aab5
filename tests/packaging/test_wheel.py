"""What people install: the wheel, the sdist and an editable install, all made without network.

They are built from a copy of the sources, with the tools that this environment has, and installed
into environments of their own, which see this one's packages but not this one's `wavenet`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from wavenet.checkpoint import save
from wavenet.cli.compose import Composed
from wavenet.cli.main import compose_and_run
from wavenet.cli.sweep import CommandResult
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "wavenet", "conf", "recipes")
EXTRAS = (
    "huggingface_hub",
    "hydra",
    "librosa",
    "matplotlib",
    "numba",
    "omegaconf",
    "soundfile",
    "soxr",
    "tensorboard",
    "torchaudio",
    "tqdm",
)
RUNTIME_COMMANDS = ("generate", "benchmark", "inspect", "import", "push")
COMMANDS = (
    "prepare",
    "train",
    "evaluate",
    "benchmark-train",
    "benchmark-blocks",
    *RUNTIME_COMMANDS,
)


def run(*command: str | Path, cwd: Path, exit_code: int = 0) -> str:
    """Run `command`, which must end with `exit_code`, and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == exit_code, done.stdout
    return done.stdout


def new_environment(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Return the `bin` of a new environment that sees this one's packages, but for some."""
    packages = folder / "packages"
    packages.mkdir()
    for path in [Path(path) for path in sys.path if path.endswith("-packages")]:
        for entry in path.iterdir():
            if entry.name.partition(".")[0] not in without and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # What a .pth file names is searched, but .pth files there (an editable wavenet) are not read:
    Path(own.strip(), "packages.pth").write_text(f"{packages}\n")
    return folder / "bin"


def install(environment: Path, *what: str | Path) -> None:
    offline = (
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--ignore-installed",
        "--no-compile",
    )
    run(environment / "python", "-m", "pip", "install", *offline, *what, cwd=environment)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of what a package is built from, and a tiny model that ships with it."""
    copy = tmp_path_factory.mktemp("packaging") / "wavenet"  # a folder without __init__.py
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    config = WaveNetConfig(quantization_channels=8, dilations=(1, 2))
    save(WaveNet(config), copy / "wavenet" / "shipped" / "tiny", AudioConfig(sample_rate=8000))
    return copy


@pytest.fixture(scope="session")
def wheel(checkout: Path) -> Path:
    """Wheel built from the checkout."""
    out = checkout.parent / "wheel"
    # In a copy of its own: setuptools leaves a build folder, which must not reach the sdist.
    sources = shutil.copytree(checkout, checkout.parent / "wheel-sources")
    run(sys.executable, "-m", "build", "--wheel", "-n", "-o", out, sources, cwd=checkout.parent)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel installed."""
    environment = new_environment(tmp_path_factory.mktemp("from-wheel"))
    install(environment, wheel)
    return environment


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel installed, but nothing of its extras."""
    environment = new_environment(tmp_path_factory.mktemp("bare"), without=EXTRAS)
    install(environment, wheel)
    return environment


@pytest.fixture(scope="session")
def editable(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the checkout installed as `pip install --editable` does."""
    environment = new_environment(tmp_path_factory.mktemp("editable"))
    install(environment, "--editable", checkout)
    return environment


def demo_audio(*command: str | Path, cwd: Path) -> Path:
    """Run `command`, a way to say `wavenet-train`, and return where it finds the demo's audio."""
    composed = run(*command, "--cfg", "job", "--resolve", "--package", "data", cwd=cwd)
    roots = [line.split(maxsplit=1)[1] for line in composed.splitlines() if "root:" in line]
    assert len(roots) == 1, composed
    return Path(roots[0])


def contents(wheel: Path) -> dict[str, int]:
    """Return the checksum of every file in `wheel`."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


def test_the_wheel_holds_every_source_file_and_nothing_else(wheel: Path, checkout: Path) -> None:
    expected = {
        f"{place}/{file.relative_to(checkout / folder).as_posix()}"
        for folder, place in [
            ("wavenet", "wavenet"),
            ("conf", "wavenet/conf"),
            ("recipes", "wavenet/recipes"),
        ]
        for file in (checkout / folder).rglob("*")
        if file.is_file()
    }

    held = {name for name in contents(wheel) if ".dist-info/" not in name}

    assert held == expected
    assert {"wavenet/py.typed", "wavenet/conf/recipe/demo.yaml"} < held
    assert sum(name.startswith("wavenet/recipes/demo/audio/") for name in held) > 100
    for name in ("config.json", "model.safetensors", "README.md", "example.safetensors"):
        assert f"wavenet/shipped/demo_voice/{name}" in held


def test_the_wheel_holds_both_licences(wheel: Path) -> None:
    licences = {name.partition("/licenses/")[2] for name in contents(wheel) if "/licenses/" in name}

    assert licences == {"LICENSE", "recipes/demo/LICENSE"}


def test_the_sdist_builds_the_same_wheel(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    sources = shutil.copytree(checkout, tmp_path / "sources")

    run(sys.executable, "-m", "build", "-n", "-o", tmp_path, sources, cwd=tmp_path)

    assert contents(next(tmp_path.glob("*.whl"))) == contents(wheel)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_wheel_runs_in_a_foreign_folder(
    command: str, from_wheel: Path, tmp_path: Path
) -> None:
    assert f"wavenet-{command} " in run(from_wheel / f"wavenet-{command}", "--help", cwd=tmp_path)


def test_wheel_contains_the_audio_of_the_demo(from_wheel: Path, tmp_path: Path) -> None:
    audio = demo_audio(from_wheel / "wavenet-train", cwd=tmp_path)

    assert audio.is_relative_to(from_wheel.parent)
    assert len(list(audio.glob("*.flac"))) > 100


def test_the_wheel_is_not_shadowed_by_the_clone_as_current_folder(
    from_wheel: Path, checkout: Path
) -> None:
    audio = demo_audio(from_wheel / "wavenet-train", cwd=checkout)

    assert audio.is_relative_to(from_wheel.parent)


def test_python_and_mypy_import_where_a_clone_called_wavenet_lies(
    editable: Path, checkout: Path
) -> None:
    program, settings = checkout.parent / "use.py", checkout.parent / "mypy.ini"
    program.write_text(
        "from wavenet import WaveNet, WaveNetConfig\n\n"
        "reveal_type(WaveNet(WaveNetConfig()).config.receptive_field)\n"
    )
    # Only what this package's own files say: torch's types take a minute.
    settings.write_text("[mypy]\nstrict = True\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\n")

    # Of the folder, which is no package, it would be None
    run(editable / "python", "-c", "import wavenet; assert wavenet.__file__", cwd=checkout.parent)
    types = run(
        editable / "python", "-m", "mypy", "--config-file", settings, program, cwd=checkout.parent
    )

    assert 'Revealed type is "int"' in types
    assert "Success: no issues found" in types


def test_an_editable_install_runs_the_clone(editable: Path, checkout: Path, tmp_path: Path) -> None:
    audio = demo_audio(editable / "wavenet-train", cwd=tmp_path)

    assert audio == checkout / "recipes" / "demo" / "audio"


@pytest.mark.parametrize("foreign", [False, True])
def test_a_recipe_runs_as_a_script_of_the_clone(
    foreign: bool, editable: Path, checkout: Path, tmp_path: Path
) -> None:
    script = checkout / "recipes" / "train.py" if foreign else "recipes/train.py"

    audio = demo_audio(editable / "python", script, cwd=tmp_path if foreign else checkout)

    assert audio == checkout / "recipes" / "demo" / "audio"


def test_no_recipe_has_the_name_of_a_module_of_python() -> None:
    # As a script it would hide it, for its folder is then first on the path.
    recipes = {recipe.stem for recipe in (ROOT / "recipes").glob("*.py")}

    assert not recipes & sys.stdlib_module_names


def test_a_recipe_composes_inside_pytest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # composing sets it: now it is put back after
    monkeypatch.setattr(sys, "argv", ["wavenet-train", "recipe=demo"])

    def task(composed: Composed) -> CommandResult:
        found = composed.plain["data"]["root"] == str(ROOT / "recipes/demo/audio")
        return CommandResult(code=7 if found else 1)

    assert compose_and_run(ROOT / "conf", "train", task) == 7


WITHOUT_EXTRAS = """
from wavenet.modules import CausalConv1d
print(CausalConv1d(2, 3, 2, dilation=4))
import wavenet
print(*(one.name for one in wavenet.models()))
print("loaded:", wavenet.load("tiny").model.config.dilations)
wavenet.load("owner/name")
"""


def test_blocks_and_models_of_the_wheel_need_no_extra_and_hub_ids_name_theirs(
    bare: Path, tmp_path: Path
) -> None:
    output = run(bare / "python", "-c", WITHOUT_EXTRAS, cwd=tmp_path, exit_code=1)

    assert "CausalConv1d(2, 3" in output
    assert "tiny" in output.split()
    assert "loaded: (1, 2)" in output
    assert "MachineError: there is no model directory owner/name and no model of" in output
    assert "pip install 'torch-wavenet[hub]'" in output


def test_the_pip_line_of_a_model_card_works_where_the_package_is_installed(
    from_wheel: Path, tmp_path: Path
) -> None:
    card = (ROOT / "wavenet" / "shipped" / "demo_voice" / "README.md").read_text("utf-8")
    line = re.search(r"^pip install [^#\n]+", card, re.MULTILINE)
    assert line is not None

    offline = ("--no-index", "--disable-pip-version-check")
    printed = run(from_wheel / "python", "-m", *shlex.split(line[0]), *offline, cwd=tmp_path)

    assert "Requirement already satisfied: torch-wavenet[train]" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_extra_names_it_and_exits_5(
    command: str, bare: Path, tmp_path: Path
) -> None:
    extra = "generate" if command in RUNTIME_COMMANDS else "train"

    output = run(bare / f"wavenet-{command}", cwd=tmp_path, exit_code=5)

    assert f"pip install 'torch-wavenet[{extra}]'" in output
    assert "Traceback" not in output
    assert len(output.splitlines()) <= 20
