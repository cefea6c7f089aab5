"""Archives from the network to a folder: downloaded, checked, unpacked, and only then there.

An archive is a nameless file until its checksum is right, and the folder has a temporary name until
all archives are in it, so whoever is interrupted leaves nothing and begins anew.
"""

import hashlib
import http.client
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, Any, TypeVar

from wavenet.utils.errors import ConfigError, DataError, MachineError, printable
from wavenet.utils.files import atomic_directory
from wavenet.utils.progress import progress

BLOCK = 1 << 20  # bytes
PATIENCE = 60  # seconds without a byte
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Archive:
    """A file on the network.

    Attributes:
        url: Where it is; a zip where it ends so, else a tar, compressed as it likes.
        sha256: Its checksum, in hexadecimal.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Its last part."""
        return self.url.rpartition("/")[2]


def fetch_archives(root: Path, archives: Sequence[Archive]) -> None:
    """Make the folder `root` of what is in `archives`.

    Raises:
        ConfigError: `root` is there already, and not empty.
        DataError: An archive is not the one that was meant, or would write elsewhere.
        EnvironmentFault: The network or the disk refuses.
    """
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ConfigError(
            f"data.root {printable(root)} is there already: a download makes a new folder; say "
            "another data.root, or empty this one yourself"
        )
    with atomic_directory(root) as folder:
        for archive in archives:
            with tempfile.TemporaryFile(dir=folder.parent) as file:
                _download(archive, file)
                _unpack(archive, file, folder)


def _download(archive: Archive, file: IO[bytes]) -> None:
    digest = hashlib.sha256()
    for block in _blocks(archive):
        digest.update(block)
        file.write(block)
    file.seek(0)
    if digest.hexdigest() != archive.sha256:
        raise DataError(
            f"{archive.url}: found SHA-256 {digest.hexdigest()}, wanted {archive.sha256}; nothing "
            "was kept. Try again; if it stays so, the file there is another one"
        )


def _blocks(archive: Archive) -> Iterator[bytes]:
    """Yield what the network gives, which is all there is or raises."""
    received, size = 0, 0
    try:
        with _open(archive.url) as response:
            size = int(response.headers.get("Content-Length") or 0)
            label = f"downloading {archive.name}"
            with progress(size or None, unit="byte", description=label) as advance:
                while block := response.read(BLOCK):
                    received += len(block)
                    advance(len(block))
                    yield block
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise _no_network(archive, printable(reason)) from error
    if received < size:
        raise _no_network(archive, f"it ended after {received} of {size} bytes")


def _open(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "torch-wavenet"})  # noqa: S310
    return urllib.request.urlopen(request, timeout=PATIENCE)  # noqa: S310 the URLs are ours


def _no_network(archive: Archive, reason: str) -> MachineError:
    return MachineError(
        f"cannot download {archive.url}: {reason}; nothing was kept. Try again, or get and unpack "
        "it yourself where there is a network"
    )


def _unpack(archive: Archive, file: IO[bytes], folder: Path) -> None:
    try:
        if archive.name.endswith(".zip"):
            _unzip(archive, file, folder)
        else:
            _untar(archive, file, folder)
    except BROKEN as error:  # a path that leads elsewhere is a TarError too
        raise DataError(f"{archive.url} is not unpacked: {printable(error)}") from error


def _untar(archive: Archive, file: IO[bytes], folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise MachineError(
            f"this Python {sys.version.split()[0]} cannot unpack {archive.name} safely: take "
            "3.10.12, 3.11.4 or a later one"
        )
    with tarfile.open(fileobj=file) as tar:
        tar.extractall(folder, _watched(tar, archive), filter="data")


def _unzip(archive: Archive, file: IO[bytes], folder: Path) -> None:
    with zipfile.ZipFile(file) as entries:
        for entry in _watched(entries.infolist(), archive):
            path = PureWindowsPath(entry.filename)  # knows both kinds of slash
            if path.anchor or ".." in path.parts:
                raise zipfile.BadZipFile(f"{entry.filename!r} would lie outside its folder")
            entries.extract(entry, folder)


def _watched(items: Iterable[Item], archive: Archive) -> Iterator[Item]:
    with progress(None, unit="file", description=f"unpacking {archive.name}") as advance:
        for item in items:
            yield item
            advance()
