import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

from wavenet.utils.errors import MachineError, require


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_is_finished_before_a_signal_counts(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"interrupted_by_{number.name}"
    lines = ["import os", f"os.kill(os.getpid(), {number})", "WHOLE = 1"]
    (tmp_path / f"{module}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    came = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(number, note)
    try:
        with pytest.raises(KeyboardInterrupt):
            require(module, "train")
        assert signal.getsignal(number) is note
    finally:
        signal.signal(number, before)

    assert came == [number]
    assert sys.modules[module].WHOLE == 1


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(MachineError, match=r"nothing_of_the_name is not installed.*\[train\]"):
        require("nothing_of_the_name", "train")
