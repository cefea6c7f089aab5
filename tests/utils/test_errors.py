import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

from wavenet.utils.errors import MachineError, require


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_delivered_after_an_import(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"interrupted_by_{number.name}"
    lines = ["import os", f"os.kill(os.getpid(), {number})", "COMPLETE = 1"]
    (tmp_path / f"{module}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    received = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(number, note)
    try:
        with pytest.raises(KeyboardInterrupt):
            require(module, "train")
        assert signal.getsignal(number) is note
    finally:
        signal.signal(number, before)

    assert received == [number]
    assert sys.modules[module].COMPLETE == 1


def test_a_missing_module_is_named_with_its_extra() -> None:
    with pytest.raises(MachineError, match=r"nothing_of_the_name is not installed.*\[train\]"):
        require("nothing_of_the_name", "train")
