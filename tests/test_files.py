import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wavenet.errors import EnvironmentFault
from wavenet.files import atomic_directory, atomic_file, locked, recover, write_text


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"

    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError

    assert list(path.parent.iterdir()) == []
    write_text(path, "whole")
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError

    assert path.read_text() == "old"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")

    write_text(tmp_path / "link", "text")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"


def test_a_directory_replaces_an_older_one_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_directory(tmp_path / "folder") as temporary:
            (temporary / text).write_text(text)

    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_failed_directory_leaves_the_older_one(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "folder") as temporary:
        (temporary / "old").touch()

    with pytest.raises(ZeroDivisionError), atomic_directory(tmp_path / "folder") as temporary:
        raise ZeroDivisionError

    assert (tmp_path / "folder" / "old").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_place_that_cannot_be_written_is_an_environment_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EnvironmentFault, match="cannot write"):
        write_text(tmp_path / "file" / "below", "text")


@pytest.mark.parametrize("name", ["a" * 250, "音" * 83])
def test_long_names_are_written_twice_too(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        write_text(tmp_path / name, "text")
        with atomic_directory(tmp_path / f"{name[:-2]}d") as temporary:
            (temporary / "file").touch()

    assert len(list(tmp_path.iterdir())) == 2


HOLDING = """
import pathlib, sys
from wavenet.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_held_folder_names_its_holder_and_is_free_when_that_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    with (
        pytest.raises(EnvironmentFault, match=f"in use by process {holder.pid} on"),
        locked(tmp_path),
    ):
        pass

    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        pass


KILLED = """
import os, pathlib, signal, sys
from wavenet.files import atomic_file
with atomic_file(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")

    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "file"], check=False)

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"


def test_a_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_a_dead_process_left_goes_and_the_older_folder_comes_back(tmp_path: Path) -> None:
    for name in (".model.old-1", ".model.tmp-1", ".other.tmp-1", ".done.old-1", "done"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "origin").write_text(name)
    (tmp_path / ".step-1.ckpt.tmp-1").touch()

    for pattern in ("model", "done", "step-*.ckpt"):
        recover(tmp_path, pattern)

    assert {path.name for path in tmp_path.iterdir()} == {"model", "done", ".other.tmp-1"}
    assert (tmp_path / "model" / "origin").read_text() == ".model.old-1"
    assert (tmp_path / "done" / "origin").read_text() == "done"
