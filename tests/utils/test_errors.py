import signal
import sys
from pathlib import Path
from types import FrameType

import pytest
import torch

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


def test_a_torchaudio_of_another_build_than_torch_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.13: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    monkeypatch.setattr(torch, "__version__", "2.11.0+cpu")

    with pytest.raises(MachineError) as caught:
        require("torchaudio", "train")

    assert str(caught.value) == (
        "torchaudio does not load (libcudart.so.13: cannot open): it must be of the same build as "
        "torch, here 2.11.0+cpu: pip install --force-reinstall --no-deps 'torchaudio==2.11.*' "
        "--index-url https://download.pytorch.org/whl/cpu"
    )


def test_a_missing_module_is_named_with_its_extra() -> None:
    with pytest.raises(MachineError, match=r"nothing_of_the_name is not installed.*\[train\]"):
        require("nothing_of_the_name", "train")
