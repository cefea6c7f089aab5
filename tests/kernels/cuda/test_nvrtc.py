"""NVRTC, which needs no GPU, and the cache of what it compiled."""

import re
from pathlib import Path

import pytest

from tests.gpu.cubins import needs_nvrtc
from wavenet.kernels.cuda import compiler
from wavenet.kernels.cuda.compiler import Nvrtc, Program, compiled_program
from wavenet.sampling.cuda.task import program
from wavenet.utils.errors import MachineError

pytestmark = needs_nvrtc
PROGRAM, OTHER = program("float32"), program("bfloat16")


def test_code_is_kept_and_damaged_code_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path))
    compiled: list[str] = []

    def compile_it(self: Nvrtc, program: Program, architecture: str) -> bytes:
        compiled.append(f"{program.name} {architecture}")
        return b"code"

    monkeypatch.setattr(Nvrtc, "compile", compile_it)
    for _ in range(2):
        assert compiled_program.__wrapped__(PROGRAM, 90) == b"code"
    assert compiled == ["sampler-float32 sm_90"]
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"cuda-sampler-float32-sm_90-\w{32}\.bin", path.name)
    path.write_bytes(path.read_bytes()[:-1])
    assert compiled_program.__wrapped__(PROGRAM, 90) == b"code"
    assert len(compiled) == 2
    assert compiled_program.__wrapped__(OTHER, 90) == b"code"
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(Program, "sources", {"warps.cu": "another version"})
    compiled_program.__wrapped__(OTHER, 90)
    assert len(compiled) == 4


def test_gpus_too_old_and_too_new_get_a_sentence_or_ptx() -> None:
    library = Nvrtc()
    newest = max(library.capabilities())

    with pytest.raises(MachineError, match=r"capability 8 or more, this one has 7\.5: use b"):
        library.architecture(PROGRAM, 75)
    assert library.architecture(PROGRAM, 89) in ("sm_89", "sm_86", "sm_80")
    assert library.architecture(PROGRAM, newest + 100) == f"compute_{newest}"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "LIBRARIES", ("libnone.so",))

    with pytest.raises(MachineError, match="pip install nvidia-cuda-nvrtc"):
        Nvrtc()
