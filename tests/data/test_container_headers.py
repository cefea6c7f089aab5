from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.container_headers import TruncatedAudio, check_whole, has_open_end

Record = Callable[..., Path]
Samples = NDArray[np.float32]

FORMS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "SVX", "OGG"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("missing", [1, 4000])
def test_a_file_that_was_cut_short_is_refused(
    record: Record, noise: Samples, form: str, missing: int
) -> None:
    path = record("cut", noise, format=form)
    check_whole(path)
    path.write_bytes(path.read_bytes()[:-missing])

    with pytest.raises(TruncatedAudio, match=r"promises|last page"):
        check_whole(path)


def pages(content: bytes) -> list[int]:
    """Where the pages of an Ogg file begin."""
    starts, at = [], 0
    while at < len(content):
        starts.append(at)
        count = content[at + 26]
        at += 27 + count + sum(content[at + 27 : at + 27 + count])
    return starts


def test_an_ogg_file_without_a_mark_at_its_end_is_whole(record: Record, noise: Samples) -> None:
    """Encoders that mark no end exist; a file cut between two pages cannot be told from theirs."""
    path = record("page.ogg", np.tile(noise, 20))
    content = path.read_bytes()
    assert not has_open_end(path)
    last = pages(content)[-1]

    for size in range(last - 50, last):
        path.write_bytes(content[:size])
        assert not has_open_end(path)
        with pytest.raises(TruncatedAudio, match="last page is incomplete"):
            check_whole(path)
    path.write_bytes(content[:last])

    check_whole(path)
    assert has_open_end(path)


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\0\0\0\0"])
def test_header_of_an_unfinished_stream_is_refused_with_advice(
    record: Record, noise: Samples, size: bytes
) -> None:
    path = record("stream.wav", noise)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"data" + content[40:44], b"data" + size))

    with pytest.raises(TruncatedAudio, match="ffmpeg -i OLD NEW"):
        check_whole(path)


def test_data_after_the_samples_is_ignored(record: Record, noise: Samples) -> None:
    path = record("more.wav", noise)
    path.write_bytes(path.read_bytes() + b"LIST\xff\xff\xff\x00half a chunk")

    check_whole(path)


def test_big_endian_file_is_read(record: Record, noise: Samples) -> None:
    path = record("rifx", noise, format="WAV", endian="BIG")
    check_whole(path)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(TruncatedAudio, match="promises 16000 bytes of samples, found 15999"):
        check_whole(path)
