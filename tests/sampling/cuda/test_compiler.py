"""The kernel compiled by NVRTC, which needs no GPU, and what its code uses of one."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavenet.sampling.cuda import compiler
from wavenet.sampling.cuda.compiler import Nvrtc, compiled_kernel
from wavenet.utils.errors import MachineError

ARCHITECTURES = ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
MAX_REGISTERS = {"float32": 240, "bfloat16": 160}  # 65,536 of a multiprocessor: 8 and 12 warps
MAX_STACK_BYTES = 128
EIATTR_REGCOUNT, EIATTR_FRAME_SIZE = 0x2F, 0x11  # of the section .nv.info


def nvrtc() -> Nvrtc | None:
    try:
        return Nvrtc()
    except MachineError:
        return None


pytestmark = pytest.mark.skipif(
    nvrtc() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc"
)


def resources(cubin: bytes) -> dict[str, tuple[int, int]]:
    """Registers and bytes of stack of each function of a cubin, an ELF file."""
    (table,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names_index = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + size * i) for i in range(count)]

    def content(header: tuple[int, ...]) -> bytes:
        return cubin[header[4] : header[4] + header[5]]

    def text(strings: bytes, place: int) -> str:
        return strings[place : strings.index(b"\0", place)].decode()

    names = content(headers[names_index])
    sections = {text(names, header[0]): header for header in headers}
    symbols, strings = content(sections[".symtab"]), content(sections[".strtab"])
    found: dict[str, dict[int, int]] = {}
    for attribute, symbol, value in attributes(content(sections[".nv.info"])):
        (place,) = struct.unpack_from("<I", symbols, 24 * symbol)
        found.setdefault(text(strings, place), {})[attribute] = value
    return {
        name: (one[EIATTR_REGCOUNT], one.get(EIATTR_FRAME_SIZE, 0))
        for name, one in found.items()
        if EIATTR_REGCOUNT in one
    }


def attributes(info: bytes) -> Iterator[tuple[int, int, int]]:
    """The attributes of symbols in a section `.nv.info`: attribute, symbol, value."""
    place = 0
    while place < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, place)
        place += 4
        if form != 4:  # the value is in the size
            continue
        if size == 8:
            yield (attribute, *struct.unpack_from("<II", info, place))
        place += size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("weight_dtype", MAX_REGISTERS)
def test_the_kernel_compiles_within_its_limits(weight_dtype: str, architecture: str) -> None:
    cubin = Nvrtc().compile(weight_dtype, architecture)

    functions = resources(cubin)
    print(weight_dtype, architecture, functions)
    registers, _ = functions["sample_warps"]
    assert max(count for count, _ in functions.values()) <= MAX_REGISTERS[weight_dtype]
    assert registers > 32  # the figure is read from the right place
    assert sum(stack for _, stack in functions.values()) <= MAX_STACK_BYTES


def test_code_is_kept_and_damaged_code_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path))
    compiled: list[str] = []

    def compile_it(self: Nvrtc, weight_dtype: str, architecture: str) -> bytes:
        compiled.append(f"{weight_dtype} {architecture}")
        return b"code"

    monkeypatch.setattr(Nvrtc, "compile", compile_it)
    for _ in range(2):
        assert compiled_kernel.__wrapped__("float32", 90) == b"code"
    assert compiled == ["float32 sm_90"]
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"cuda-sampler-float32-sm_90-\w{32}\.bin", path.name)
    path.write_bytes(path.read_bytes()[:-1])
    assert compiled_kernel.__wrapped__("float32", 90) == b"code"
    assert len(compiled) == 2
    assert compiled_kernel.__wrapped__("bfloat16", 90) == b"code"
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(compiler, "sources_digest", lambda: "another version")
    compiled_kernel.__wrapped__("bfloat16", 90)
    assert len(compiled) == 4


def test_gpus_too_old_and_too_new_get_a_sentence_or_ptx() -> None:
    library = Nvrtc()
    newest = max(library.capabilities())

    with pytest.raises(MachineError, match=r"capability 8 or more, this one has 7\.5"):
        library.architecture(75)
    assert library.architecture(89) in ("sm_89", "sm_86", "sm_80")
    assert library.architecture(newest + 100) == f"compute_{newest}"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "LIBRARIES", ("libnone.so",))

    with pytest.raises(MachineError, match="pip install nvidia-cuda-nvrtc"):
        Nvrtc()
