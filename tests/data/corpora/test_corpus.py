import contextlib
import http.server
import io
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wavenet.data.corpora.corpus import Archive, download
from wavenet.data.corpora.ljspeech import find
from wavenet.utils.errors import ConfigError, DataError, MachineError
from wavenet.utils.files import file_digest

from .conftest import Plant

WRONG = "0" * 64


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves the files of these tests."""

    base = ""  # the server's address
    folder = Path()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=self.folder)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Yield the address of a server that runs within the block."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", autouse=True)
def _files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    Files.folder = tmp_path_factory.getbasetemp()
    with serving(Files) as Files.base:
        yield


def archive_of(path: Path) -> Archive:
    """Return `path` as it is on the network."""
    return Archive(f"{Files.base}/{path.relative_to(Files.folder)}", file_digest(path))


def tar_of(path: Path, *members: tarfile.TarInfo | str) -> Archive:
    """Return a new tar of files that hold `text`, or of other members."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isfile():
                info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))
    return archive_of(path)


def zip_of(path: Path, *names: str) -> Archive:
    """Return a new zip of files that hold `text`."""
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "text")
    return archive_of(path)


def link(name: str, target: str) -> tarfile.TarInfo:
    """Return a symbolic link as a tar has it."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder for archives, beside the one into which they are fetched."""
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    return tmp_path / "source"


@pytest.fixture
def root(source: Path) -> Path:
    """Return where the archives go."""
    return source.parent / "target" / "root"


def test_downloaded_corpus_is_found(plant: Plant, source: Path, root: Path) -> None:
    corpus = plant("wavs/LJ001-0001.wav", texts={"metadata.csv": "LJ001-0001|a|b\n"})
    with tarfile.open(source / "LJSpeech-1.1.tar.bz2", "w:bz2") as tar:
        tar.add(corpus, "LJSpeech-1.1")

    download(root, [archive_of(source / "LJSpeech-1.1.tar.bz2")])

    assert [item.name for item in find(root).sources] == ["LJSpeech-1.1/wavs/LJ001-0001.wav"]
    assert list(root.parent.iterdir()) == [root]


def test_archives_of_all_formats_unpack_into_one_folder(source: Path, root: Path) -> None:
    root.mkdir()  # empty, so nobody's

    download(root, [tar_of(source / "a.tar.gz", "a/one"), zip_of(source / "b.zip", "b/two", "c/")])

    assert (root / "a" / "one").read_text() == "text"
    assert (root / "b" / "two").read_text() == "text"
    assert (root / "c").is_dir()
    assert list(root.parent.iterdir()) == [root]


def test_wrong_checksum_shows_both_and_leaves_nothing(source: Path, root: Path) -> None:
    good, bad = tar_of(source / "a.tar.gz", "one"), tar_of(source / "b.tar.gz", "two")

    with pytest.raises(DataError) as failure:
        download(root, [good, Archive(bad.url, WRONG)])

    assert bad.url in str(failure.value)
    assert f"expected {WRONG} but got {bad.sha256}" in str(failure.value)
    assert list(root.parent.iterdir()) == []


@pytest.mark.parametrize(
    "members",
    [("good", "../evil"), (link("way", "../.."), "way/evil"), (link("way", "/tmp"),)],  # noqa: S108
)
def test_a_tar_that_leads_out_of_its_folder_is_refused(
    members: tuple[tarfile.TarInfo | str, ...], source: Path, root: Path
) -> None:
    archive = tar_of(source / "evil.tar.gz", *members)

    with pytest.raises(DataError, match=r"evil.tar.gz is not unpacked: .*(outside|absolute)"):
        download(root, [archive])

    assert not (source.parent / "evil").exists()
    assert list(root.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(name: str, source: Path, root: Path) -> None:
    archive = zip_of(source / "evil.zip", "good", name)

    with pytest.raises(DataError, match=r"evil.zip is not unpacked: .*outside its folder"):
        download(root, [archive])

    assert list(root.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["broken.zip", "broken.tar.gz"])
def test_a_file_that_is_no_archive_is_refused(name: str, source: Path, root: Path) -> None:
    (source / name).write_text("a page that says sorry")

    with pytest.raises(DataError, match=f"{name} is not unpacked"):
        download(root, [archive_of(source / name)])

    assert list(root.parent.iterdir()) == []


@pytest.mark.parametrize("base", ["", "http://127.0.0.1:9"], ids=["no file", "no server"])
def test_a_failed_download_names_the_url(base: str, root: Path) -> None:
    url = f"{base or Files.base}/a.zip"

    with pytest.raises(MachineError, match=f"cannot download {url}: .* nothing was kept"):
        download(root, [Archive(url, WRONG)])

    assert list(root.parent.iterdir()) == []


def test_a_folder_with_files_is_left_alone(source: Path, root: Path) -> None:
    root.mkdir()
    (root / "mine").touch()

    with pytest.raises(ConfigError, match="exists: a download makes a new folder"):
        download(root, [tar_of(source / "a.tar.gz", "one")])

    assert list(root.iterdir()) == [root / "mine"]


class Halting(http.server.BaseHTTPRequestHandler):
    """Promises many bytes, sends 4; at `/interrupt` it interrupts the download and sends on."""

    interrupted = threading.Event()  # set by the test

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"text")
        if self.path == "/interrupt":
            self.wfile.flush()
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
            with contextlib.suppress(OSError):  # the download was closed
                while not self.interrupted.wait(0.01):
                    self.wfile.write(b".")  # so that the reader is never left waiting

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def halting() -> Iterator[str]:
    """Yield the address of a server that does not finish what it begins."""
    Halting.interrupted.clear()
    with serving(Halting) as base:
        yield base
        Halting.interrupted.set()


def test_broken_download_leaves_nothing(halting: str, root: Path) -> None:
    with pytest.raises(MachineError, match=rf"{halting}/a.zip: .*4 bytes read, 999996 more"):
        download(root, [Archive(f"{halting}/a.zip", WRONG)])

    assert list(root.parent.iterdir()) == []


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(
    halting: str, source: Path, root: Path
) -> None:
    good = tar_of(source / "a.tar.gz", "one")
    # a process that a shell starts in the background ignores SIGINT
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        with pytest.raises(KeyboardInterrupt):
            download(root, [good, Archive(f"{halting}/interrupt", WRONG)])
    finally:
        signal.signal(signal.SIGINT, before)

    Halting.interrupted.set()
    assert list(root.parent.iterdir()) == []
    download(root, [good])
    assert (root / "one").read_text() == "text"
