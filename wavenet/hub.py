"""Model directories on the Hugging Face hub: download and upload. Extra `hub`.

Cache, login and settings are those of `huggingface_hub`: `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`,
`HF_ENDPOINT`. Of a repository, only the three files of a model directory are fetched, and the
weights only after their config has been read: it says whether they are a model of this package.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from wavenet.checkpoint import CARD, CONFIG, WEIGHTS, read_config
from wavenet.model_card import HUB_ID, card_for_hub
from wavenet.utils.errors import (
    CheckpointError,
    ConfigError,
    MachineError,
    WavenetError,
    printable,
    require,
)

LIBRARY = "torch-wavenet"  # in the statistics of the hub
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def download(repo_id: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """Return a folder of the hub's cache with a model directory, downloaded if it is not there.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag or commit; `None` for `main`.
        weights: Also fetch the weights.

    Raises:
        CheckpointError: There is no such repository or revision, or it holds no model directory.
        MachineError: The files are not in the cache and the hub cannot be reached, or the extra
            `hub` is not installed.
    """
    hub = require("huggingface_hub", "hub")
    with _one_sentence(hub, repo_id, revision):
        folder = Path(
            hub.snapshot_download(
                repo_id,
                revision=revision,
                library_name=LIBRARY,
                allow_patterns=[CONFIG, CARD],
                tqdm_class=_no_progress_bar(hub),  # small files, mostly in the cache
            )
        )
        no_model = f"the repository {repo_id} holds no model of this package"
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{no_model}: it has no {CONFIG}")
        try:
            read_config(folder)
        except CheckpointError as error:
            raise CheckpointError(f"{no_model}: {error}") from error
        if weights and not (folder / WEIGHTS).is_file():  # of the commit that names the folder
            hub.snapshot_download(
                repo_id, revision=folder.name, library_name=LIBRARY, allow_patterns=[WEIGHTS]
            )
    return folder


def push(folder: Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a model directory in one commit, and return the address of its repository.

    Its card then names the repository. A repository that does not exist is created.

    Args:
        folder: A model directory; `wavenet.load` should have verified it.
        repo_id: `owner/name`.
        private: Whether only its owner can see it.

    Raises:
        ConfigError: `repo_id` has another form, or the repository exists and is public, but
            `private` is asked for.
        MachineError: The hub cannot be reached or refuses the token, or the extra `hub` is not
            installed.
    """
    match = HUB_ID.fullmatch(repo_id)
    if match is None or match["revision"]:
        raise ConfigError(f"repo must be owner/name, got {printable(repo_id)}")
    hub = require("huggingface_hub", "hub")
    api = hub.HfApi(library_name=LIBRARY)
    card = card_for_hub((folder / CARD).read_text(encoding="utf-8"), repo_id)
    contents: dict[str, Any] = {
        CONFIG: folder / CONFIG,
        WEIGHTS: folder / WEIGHTS,
        CARD: card.encode(),
    }
    with _one_sentence(hub, repo_id):
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ConfigError(
                f"{repo_id} exists and is public, and private=true asks for a private one: use "
                "private=false, or another repo"
            )
        api.create_commit(
            repo_id,
            [
                hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in contents.items()
            ],
            commit_message="Upload a WaveNet",
        )
    return str(address)


def _no_progress_bar(hub: ModuleType) -> type:
    base: Any = hub.utils.tqdm

    def init(self: Any, *args: Any, **options: Any) -> None:
        base.__init__(self, *args, **options | {"disable": True})

    return type("NoProgressBar", (base,), {"__init__": init})


@contextlib.contextmanager
def _one_sentence(hub: ModuleType, repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Raise the hub library's errors as ours."""
    errors = require("huggingface_hub.errors", "hub")
    try:
        yield
    except WavenetError:
        raise
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"the repository {repo_id} is gated: ask for access on its page, then {LOGIN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{hub.constants.ENDPOINT} has no repository {repo_id} that you may read; if it is "
            f"private, {LOGIN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(
            f"the repository {repo_id} has no revision {printable(revision)}"
        ) from error
    except errors.HFValidationError as error:
        raise ConfigError(printable(error)) from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        reason = f"the hub cannot be reached ({type(cause).__name__}: {printable(cause)})"
        if hub.constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set"
        raise MachineError(
            f"{repo_id} is not, or not completely, in the cache {hub.constants.HF_HUB_CACHE}, and "
            f"{reason}: connect, or copy the model directory from another machine"
        ) from error
    except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:
        raise MachineError(_why_refused(error, repo_id)) from error


def _why_refused(error: Exception, repo_id: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"the hub does not accept the token, or there is none: {LOGIN}"
    if status == 403:
        return f"the token has no permission to write {repo_id}: {LOGIN} to one that may write"
    causes = [error, *([error.__cause__] if error.__cause__ else [])]
    parts = [next(iter(str(one).strip().splitlines()), type(one).__name__) for one in causes]
    message = getattr(causes[-1], "server_message", None)
    return f"{repo_id}: {printable(': '.join([*parts, *([message] if message else [])]), 400)}"
