"""Models on the Hugging Face hub, against a stand-in that answers as the hub does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.repocard import ModelCard

import wavenet
from tests.cli.test_compose import composed
from tests.commands import run_here
from tests.hub_server import READ_ONLY, TOKEN, Hub, Repository, serve
from wavenet.checkpoint import save
from wavenet.cli.commands import TrainCommand
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.derive import derive
from wavenet.hub import push
from wavenet.model import WaveNet
from wavenet.model_card import BaseModel
from wavenet.training.init_config import base_model, config_from_model
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import from_dict, narrow
from wavenet.utils.errors import CheckpointError, ConfigError, MachineError

# of the hub library, about its own upload with Git LFS:
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CONFIG = WaveNetConfig(
    quantization_channels=8, dilations=(1, 2), residual_channels=4, gate_channels=4
)
FILES = {"config.json", "model.safetensors", "README.md"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    info = wavenet.TrainingInfo(data="demo", license="CC-BY-4.0")
    save(WaveNet(CONFIG), tmp_path / "model", AudioConfig(sample_rate=8000), info)
    return tmp_path / "model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub, in whose place the hub library looks; its cache is empty."""
    with serve() as running:
        # What HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN_PATH set, read when the library is imported:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Git LFS instead
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        yield running


def weights(folder: Path | str) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in wavenet.load(folder).model.parameters()])


def test_a_model_on_the_hub_loads_by_its_id(hub: Hub, folder: Path) -> None:
    hub.add("owner/name", folder, {"pytorch_model.bin": b"pickle", "thesis.pdf": b"x"})

    loaded = wavenet.load("owner/name")

    assert loaded.training.license == "CC-BY-4.0"
    assert torch.equal(weights("owner/name"), weights(folder))
    assert set(hub.downloads) == FILES


def test_a_foreign_model_is_refused_before_its_weights_are_fetched(hub: Hub, folder: Path) -> None:
    hub.add("owner/bert", folder, {"config.json": b'{"architectures": ["BertModel"]}'})
    hub.repositories["owner/empty"] = Repository()
    hub.repositories["owner/empty"].commit({"model.safetensors": b"x"})

    with pytest.raises(CheckpointError, match="owner/bert holds no model.*'architectures'"):
        wavenet.load("owner/bert")
    with pytest.raises(CheckpointError, match="owner/empty holds no model.*no config.json"):
        wavenet.load("owner/empty")

    assert "model.safetensors" not in hub.downloads


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Hub, folder: Path, tmp_path: Path) -> None:
    repository = hub.add("owner/name", folder, ref="v1")
    save(WaveNet(CONFIG), tmp_path / "newer", AudioConfig(sample_rate=8000))
    hub.add("owner/name", tmp_path / "newer")

    first, newest = weights(folder), weights(tmp_path / "newer")

    assert not torch.equal(first, newest)
    assert torch.equal(weights("owner/name"), newest)
    assert torch.equal(weights("owner/name@v1"), first)
    assert torch.equal(weights(f"owner/name@{repository.refs['v1']}"), first)
    with pytest.raises(CheckpointError, match="owner/name has no revision v2"):
        wavenet.load("owner/name@v2")


def test_a_model_in_the_cache_loads_without_network(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/name", folder)
    wavenet.load("owner/name")
    asked = len(hub.requests)

    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        assert torch.equal(weights("owner/name"), weights(folder))
        with pytest.raises(MachineError, match="owner/other is not.*HF_HUB_OFFLINE is set"):
            wavenet.load("owner/other")
    assert len(hub.requests) == asked

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    assert torch.equal(weights("owner/name"), weights(folder))
    with pytest.raises(MachineError, match="owner/other is not.*the hub cannot be reached"):
        wavenet.load("owner/other")


def test_a_model_in_the_cache_is_not_downloaded_again(hub: Hub, folder: Path) -> None:
    hub.add("owner/name", folder)
    wavenet.load("owner/name")
    first = len(hub.downloads)

    wavenet.load("owner/name")

    assert len(hub.downloads) == first == len(FILES)


def test_a_damaged_download_is_refused(hub: Hub, folder: Path) -> None:
    damaged = bytearray((folder / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    hub.add("owner/name", folder, {"model.safetensors": bytes(damaged)})

    with pytest.raises(CheckpointError, match="model.safetensors: checksum differs"):
        wavenet.load("owner/name")


def test_an_unknown_repository_lists_where_the_name_was_looked_for(hub: Hub) -> None:
    with pytest.raises(CheckpointError) as caught:
        wavenet.load("owner/nothing")

    for place in ("no model directory owner/nothing", "no model of that name", hub.address):
        assert place in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_private_repository_needs_a_token(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/name", folder).private = True

    with pytest.raises(CheckpointError, match="set HF_TOKEN"):
        wavenet.load("owner/name")
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    assert wavenet.load("owner/name").training.data == "demo"


def test_an_existing_path_wins_over_the_hub(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.add("owner/name", folder)
    save(WaveNet(CONFIG), tmp_path / "owner" / "name", AudioConfig(sample_rate=16000))

    assert wavenet.load("owner/name").audio.sample_rate == 16000
    with pytest.raises(
        CheckpointError, match="there is no model directory owner/other; owner has owner/name$"
    ):
        wavenet.load(Path("owner/other"))
    assert hub.requests == []


def test_a_revision_asks_the_hub_for_a_name_that_looks_like_a_path(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "owner").mkdir()
    for name in ("owner/name", "someone/model"):
        hub.add(name, folder)
        with pytest.raises(
            CheckpointError,
            match=f"there is no model directory {name}; .*@main on the",
        ):
            wavenet.load(name)
        assert hub.requests == []

    for name in ("owner/name", "someone/model"):
        assert wavenet.load(f"{name}@main").training.data == "demo"


def test_a_pushed_model_loads_by_its_id(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    address = push(folder, "owner/name")

    repository = hub.repositories["owner/name"]
    files = repository.commits[repository.refs["main"]]
    assert (address, repository.private) == (f"{hub.address}/owner/name", True)
    assert set(files) == FILES | {".gitattributes"}
    assert [*hub.large.values()] == [files["model.safetensors"]]
    assert torch.equal(weights("owner/name"), weights(folder))
    card = files["README.md"].decode()
    assert "wavenet-generate checkpoint=owner/name seconds=5" in card
    assert "torch-wavenet[generate,hub]" in card
    assert ModelCard(card).data.to_dict()["license"] == "cc-by-4.0"


def test_a_public_repository_is_not_pushed_to_as_private(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push(folder, "owner/name", private=False)
    commits = len(hub.repositories["owner/name"].commits)

    with pytest.raises(ConfigError, match="owner/name exists and is public"):
        push(folder, "owner/name")

    assert len(hub.repositories["owner/name"].commits) == commits


@pytest.mark.parametrize(
    ("token", "problem"),
    [("", "set HF_TOKEN"), ("hf_wrong", "does not accept"), (READ_ONLY, "no permission to write")],
)
def test_a_token_that_may_not_write_is_one_sentence(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, problem: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)

    with pytest.raises(MachineError, match=problem) as caught:
        push(folder, "owner/name")

    assert "\n" not in str(caught.value)
    assert hub.repositories == {}


def test_an_upload_that_breaks_off_is_one_sentence(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.full = True

    with pytest.raises(MachineError, match="owner/name: .*no storage left") as caught:
        push(folder, "owner/name")

    assert "\n" not in str(caught.value)
    assert FILES.isdisjoint(*hub.repositories["owner/name"].commits.values())


@pytest.mark.parametrize("repo", ["name", "owner/name@v1", "owner/name/more", ""])
def test_a_push_needs_an_owner_and_a_name(hub: Hub, folder: Path, repo: str) -> None:
    with pytest.raises(ConfigError, match="repo must be owner/name"):
        push(folder, repo)


def test_what_the_hubs_own_client_uploads_loads(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    HfApi().create_repo("owner/name")
    HfApi().upload_folder(repo_id="owner/name", folder_path=folder)

    assert torch.equal(weights("owner/name"), weights(folder))


def test_commands_push_and_take_models_of_the_hub(
    hub: Hub,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    pushed = run_here("push", ("checkpoint=model", "repo=owner/name", "private=true"), capsys)
    words = ("checkpoint=owner/name", "seconds=0.01", "backend=reference")
    generated = run_here("generate", words, capsys)
    inspected = run_here("inspect", ("checkpoint=owner/name",), capsys)
    unknown = run_here("generate", ("owner/nothing", "output=b.wav"), capsys)

    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.splitlines()[0] == f"{hub.address}/owner/name"
    assert generated.returncode == 0, generated.stderr
    assert (tmp_path / "generated.wav").is_file()
    assert "receptive field: 4 samples" in inspected.stdout
    assert unknown.returncode == 4


def test_a_shipped_model_is_pushed_by_its_name(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    pushed = run_here("push", ("demo_voice", "repo=owner/voice"), capsys)

    assert pushed.returncode == 0, pushed.stderr
    assert torch.equal(weights("owner/voice"), weights("demo_voice"))
    files = HfApi().snapshot_download("owner/voice")
    card = (Path(files) / "README.md").read_text("utf-8")
    assert "checkpoint=owner/voice input=" in card
    assert "Allison Smith" in card, "the attribution that its license asks for"


def test_a_model_on_the_hub_is_not_pushed_elsewhere(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add("someone/voice", folder)

    refused = run_here("push", ("someone/voice", "repo=owner/name"), capsys)

    assert refused.returncode == 4
    assert "there is no model directory someone/voice, and a model that is on" in refused.stderr
    assert "owner/name" not in hub.repositories


def test_a_run_from_a_model_on_the_hub_carries_its_licenses(hub: Hub, folder: Path) -> None:
    hub.add("owner/name", folder)
    words = ("recipe=folder", "data.root=recordings", "init=owner/name")
    command = from_dict(TrainCommand, derive(composed(*words)))

    config = config_from_model(narrow(RunConfig, command), ())

    assert base_model(config) == "owner/name"
    assert config.license == "CC-BY-4.0"
    assert config.lineage == (BaseModel(name="owner/name", data="demo", license="CC-BY-4.0"),)
