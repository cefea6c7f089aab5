"""Downloads archives, checks their SHA-256 and unpacks them to a folder.

The folder has a temporary name until all archives are in it, so an interrupted download leaves
nothing behind and can be repeated.
"""

import logging
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

from wavenet.utils.errors import ConfigError, DataError, MachineError, printable, require
from wavenet.utils.files import atomic_directory
from wavenet.utils.progress import progress

ARCHIVE = ".archive"  # name of an archive while it is unpacked
TIMEOUT_SECONDS = 60  # without a byte
UNPACKING_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)

Item = TypeVar("Item")


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


def fetch_archives(root: Path, archives: Sequence[Archive]) -> None:
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
            path = _download(archive, folder)
            _unpack(archive, path, folder)
            path.unlink()


def _download(archive: Archive, folder: Path) -> Path:
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
