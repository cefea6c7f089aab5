import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment
from wavenet.utils.errors import ConfigError, MachineError
from wavenet.utils.files import (
    atomic_directory,
    atomic_file,
    leftovers,
    locked,
    new_numbered_folder,
    remove_leftovers,
    write_text,
)


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"

    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError

    assert not path.parent.exists()
    write_text(path, "complete")
    assert path.read_text() == "complete"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failed_write_keeps_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError

    assert path.read_text() == "old"


def test_a_failed_write_leaves_no_new_folder(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()

    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "old" / "a" / "b" / "file"):
        raise KeyboardInterrupt

    assert (tmp_path / "old").is_dir()
    assert not list((tmp_path / "old").iterdir())


def test_a_write_to_a_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")

    write_text(tmp_path / "link", "text")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"


def test_a_directory_replaces_an_existing_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_directory(tmp_path / "folder") as temporary:
            (temporary / text).write_text(text)

    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_failed_directory_keeps_the_existing_one(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "folder") as temporary:
        (temporary / "old").touch()

    with pytest.raises(ZeroDivisionError), atomic_directory(tmp_path / "folder") as temporary:
        raise ZeroDivisionError

    assert (tmp_path / "folder" / "old").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_written_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(MachineError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "text")


@pytest.mark.parametrize("name", ["a" * 250, "音" * 83])
def test_files_with_long_names_can_be_replaced(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        write_text(tmp_path / name, "text")
        with atomic_directory(tmp_path / f"{name[:-2]}d") as temporary:
            (temporary / "file").touch()

    assert len(list(tmp_path.iterdir())) == 2


HOLDING = """
import pathlib, sys
from wavenet.utils.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    with (
        pytest.raises(MachineError, match=f"in use by process {holder.pid} on"),
        locked(tmp_path),
    ):
        pass

    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        pass


KILLED = """
import os, pathlib, signal, sys
from wavenet.utils.files import atomic_file
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


@pytest.mark.slow
def test_only_files_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "file"], check=False)
    (left,) = set(tmp_path.iterdir()) - {tmp_path / "file"}
    assert leftovers(tmp_path, "file") == leftovers(tmp_path) == [left]

    remove_leftovers(tmp_path, "other")
    assert left.exists()
    remove_leftovers(tmp_path, "file")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


FOREIGN = (
    "run.tmp-01234567",  # not hidden
    ".run.tmp-0123456",  # too short
    ".run.tmp-012345678",  # too long
    ".run.tmp-0123456G",
    ".run.bak-01234567",
    ".tmp-01234567",  # of nothing
    f".{200 * 'a'}.tmp-01234567",  # of any name that starts so
)


def test_files_with_foreign_names_are_not_leftovers(tmp_path: Path) -> None:
    for name in FOREIGN:
        (tmp_path / name).touch()

    remove_leftovers(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(FOREIGN)


def test_leftover_files_folders_and_links_are_removed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "b.ckpt").touch()
    (tmp_path / ".b\n.ckpt.tmp-01234567").touch()
    (tmp_path / ".c.tmp-89abcdef").mkdir()
    (tmp_path / ".c.tmp-89abcdef" / "file").touch()
    (tmp_path / ".d.tmp-89abcdef").symlink_to(tmp_path / "kept")

    remove_leftovers(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"kept", "b.ckpt"}
    assert (tmp_path / "kept" / "file").exists()


def test_a_missing_folder_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "none")

    assert leftovers(tmp_path / "none", "name") == []


BETWEEN = """
import os, pathlib, signal, sys
from wavenet.utils.files import atomic_directory
rename, renames = os.rename, []
def counted(old, new):
    if len(renames) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    renames.append(rename(old, new))
os.rename = counted
with atomic_directory(pathlib.Path(sys.argv[1])) as folder:
    (folder / "new").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("renames", "absent"), [(0, False), (1, True)])
def test_a_replaced_folder_is_renamed_back_after_a_kill(
    tmp_path: Path, renames: int, absent: bool
) -> None:
    with atomic_directory(tmp_path / "folder") as folder:
        (folder / "old").touch()
    killed = [sys.executable, "-c", BETWEEN, str(tmp_path / "folder"), str(renames)]

    done = subprocess.run(killed, env=environment(), check=False)

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "folder").exists() is not absent
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path, "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old"]


def test_a_replaced_folder_is_removed_if_the_new_one_exists(tmp_path: Path) -> None:
    for name in (".folder.old-01234567", ".folder.old-89abcdef", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "new").touch()

    remove_leftovers(tmp_path)

    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_new_numbered_folders_count_up(tmp_path: Path) -> None:
    names = [new_numbered_folder(tmp_path / "runs", "demo").name for _ in range(3)]

    assert names == ["demo", "demo-2", "demo-3"]


def test_a_lock_has_many_shared_holders_or_one_exclusive(tmp_path: Path) -> None:
    with locked(tmp_path, shared=True), locked(tmp_path, shared=True):
        with pytest.raises(MachineError, match="is in use by"), locked(tmp_path):
            pass
        with locked(tmp_path, "another name"):
            pass
    with (
        locked(tmp_path),
        pytest.raises(MachineError, match=f"in use by process {os.getpid()} on"),
        locked(tmp_path, shared=True),
    ):
        pass


def test_a_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_file_that_appears_meanwhile_is_kept_where_none_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"

    with (
        pytest.raises(ConfigError, match="exists, another process wrote it meanwhile"),
        atomic_file(path, replace=False) as late,
    ):
        late.write_text("late")
        with atomic_file(path, replace=False) as early:
            early.write_text("early")

    assert path.read_text() == "early"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
