"""A published dataset: its name, recordings, speakers and download.

Archives are downloaded and unpacked to a folder with a temporary name, after a check of their
SHA-256, so an interrupted download leaves nothing behind and can be repeated.
"""

import logging
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

from wavenet.data.preparation.sources import SourceListing
from wavenet.utils.errors import ConfigError, DataError, MachineError, printable, require
from wavenet.utils.files import atomic_directory
from wavenet.utils.progress import progress

MAX_NAMES = 6  # in a message
ARCHIVE = ".archive"  # name of an archive while it is unpacked
TIMEOUT_SECONDS = 60  # without a byte
UNPACKING_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Attributes:
        name: As in `data.corpus=NAME`.
        about: One line: content, size, license and source.
        find: Return the recordings below a root, each with its speaker and its score if it has one;
            raises `DataError` if something is missing, with the source.
        fetch: Downloads or renders the recordings into a root that does not exist yet; absent if
            the user has to.
    """

    name: str
    about: str
    find: Callable[[Path], SourceListing]
    fetch: Callable[[Path], None] | None = None

    def absent(self, folder: Path, wanted: str) -> DataError:
        """Return the error that `folder` holds no part of this corpus."""
        return DataError(
            f"{printable(folder)} does not hold the corpus {self.name}: found {_seen_in(folder)}; "
            f"wanted {wanted}. {self._source_text}"
        )

    def incomplete(
        self, folder: Path, missing: str, found: SourceListing, names: Collection[str] = ()
    ) -> DataError:
        """Return the error that recordings are missing in `folder`, `names` among them."""
        missing += f": {_listed(names)}" if names else ""
        linked = found.linked_folders
        note = f"; linked folders there, which are not followed: {linked}" if linked else ""
        return DataError(
            f"{printable(folder)} does not hold all of the corpus {self.name}: {missing}{note}. "
            f"Unpack it again, or use what there is, without speakers, with data.corpus=folder. "
            f"{self._source_text}"
        )

    @property
    def _source_text(self) -> str:
        download = " data.download=true downloads it to a new data.root." if self.fetch else ""
        return f"{self.about}.{download}"


def home_of(root: Path, *names: str) -> Path:
    """Return the first existing folder of `names` in `root`, or `root` if there is none."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def folders_in(folder: Path) -> list[str]:
    """Return the names of the visible folders in `folder`; none if it is not a folder."""
    if not folder.is_dir():
        return []
    return [name for name in _names_in(folder) if name[0] != "." and (folder / name).is_dir()]


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file, without their ends; bytes that are not UTF-8 become �."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}") from error


def _listed(names: Collection[str]) -> str:
    """Return the first `MAX_NAMES` of the sorted names, and the number of the others."""
    shown = ", ".join(printable(name, 60) for name in sorted(names)[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise MachineError(
            f"cannot list {printable(folder)}: {error.strerror}; allow yourself to read it"
        ) from error


def _seen_in(folder: Path) -> str:
    """Return what is in `folder`, for a message."""
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file, not a folder"
    return _listed(_names_in(folder)) or "an empty folder"


@dataclass(frozen=True)
class Archive:
    """A file on the network.

    Attributes:
        url: Its address; a zip if it ends in `.zip`, else a tar with any compression.
        sha256: Its checksum in hexadecimal.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


def download(root: Path, archives: Sequence[Archive]) -> None:
    """Make the folder `root` from the content of `archives`.

    Raises:
        ConfigError: `root` is there already, and not empty.
        DataError: An archive has another checksum, or would write outside of the folder.
        MachineError: The network or the disk refuses.
    """
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ConfigError(
            f"data.root {printable(root)} exists: a download makes a new folder; choose another "
            "data.root, or empty this one yourself"
        )
    with atomic_directory(root) as folder:
        for archive in archives:
            path = _retrieve(archive, folder)
            _unpack(archive, path, folder)
            path.unlink()


def _retrieve(archive: Archive, folder: Path) -> Path:
    """Download an archive to `folder` and check it; return its path."""
    pooch: Any = require("pooch", "train")
    requests: Any = require("requests", "train")
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=TIMEOUT_SECONDS,
        headers={"User-Agent": "torch-wavenet"},
    )
    try:
        path = pooch.retrieve(archive.url, archive.sha256, ARCHIVE, folder, downloader=downloader)
    except requests.RequestException as error:
        raise MachineError(
            f"cannot download {archive.url}: {printable(error)}; nothing was kept. Try again, or "
            "download and unpack it yourself where there is a network"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{archive.url}: {printable(error, 600)} Nothing was kept. Try again; if it happens "
            "again, the file there is another one"
        ) from error
    return Path(path)


def _unpack(archive: Archive, path: Path, folder: Path) -> None:
    try:
        if archive.name.endswith(".zip"):
            _unzip(archive, path, folder)
        else:
            _untar(archive, path, folder)
    except UNPACKING_ERRORS as error:  # a path that leads elsewhere is a TarError too
        raise DataError(f"{archive.url} is not unpacked: {printable(error)}") from error


def _untar(archive: Archive, path: Path, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise MachineError(
            f"this Python {sys.version.split()[0]} cannot unpack {archive.name} safely: use "
            "3.10.12, 3.11.4 or a later one"
        )
    with tarfile.open(path) as tar:
        tar.extractall(folder, _with_progress(tar, archive), filter="data")


def _unzip(archive: Archive, path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as entries:
        for entry in _with_progress(entries.infolist(), archive):
            place = PureWindowsPath(entry.filename)  # knows both kinds of slash
            if place.anchor or ".." in place.parts:
                raise zipfile.BadZipFile(f"{entry.filename!r} would lie outside its folder")
            entries.extract(entry, folder)


def _with_progress(items: Iterable[Item], archive: Archive) -> Iterator[Item]:
    with progress(None, unit="file", description=f"unpacking {archive.name}") as advance:
        for item in items:
            yield item
            advance()
