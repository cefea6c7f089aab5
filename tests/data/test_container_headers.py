import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.audio import read_header, read_samples
from wavenet.data.container_headers import TruncatedAudio, check_whole, has_open_end
from wavenet.utils.errors import DataError

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
    """Some encoders set no end-of-stream flag; a file cut between two pages looks the same."""
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


@pytest.mark.parametrize("encoding", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 8000])
def test_an_ogg_file_as_libsndfile_writes_it_is_whole(
    record: Record, noise: Samples, encoding: str, channels: int, frames: int
) -> None:
    samples = np.stack([noise[:frames]] * channels, axis=1)
    path = record("whole.ogg", samples, subtype=encoding)

    check_whole(path)

    assert not has_open_end(path)


@pytest.mark.parametrize("encoding", ["VORBIS", "OPUS"])
def test_any_changed_byte_of_an_ogg_file_is_noticed(
    record: Record, noise: Samples, encoding: str
) -> None:
    path = record("changed.ogg", noise[:2000], subtype=encoding)
    content = path.read_bytes()
    starts = pages(content)

    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(content):
            file.seek(at)
            file.write(bytes([byte ^ 1 << at % 8]))
            if at < 4:  # not Ogg any more
                with pytest.raises(DataError):
                    read_header(path)
            else:
                start = max(start for start in starts if start <= at)
                page = f"page at byte {start} is damaged"
                with pytest.raises(
                    TruncatedAudio, match=page if start < starts[-1] else f"{page}|last page"
                ):
                    check_whole(path)
            file.seek(at)
            file.write(bytes([byte]))
    check_whole(path)


def test_an_ogg_file_that_lacks_bytes_in_its_middle_is_refused(
    record: Record, noise: Samples
) -> None:
    path = record("gap.ogg", np.tile(noise, 20))
    content = path.read_bytes()
    starts = pages(content)

    for at in range(4, len(content) - 1000, 499):
        path.write_bytes(content[:at] + content[at + 1000 :])
        first = max(start for start in starts if start <= at)
        with pytest.raises(TruncatedAudio, match=f"page at byte {first} is damaged|last page"):
            check_whole(path)


@pytest.mark.parametrize("encoding", ["VORBIS", "OPUS"])
def test_an_ogg_file_that_lacks_a_whole_page_is_refused(
    record: Record, noise: Samples, encoding: str
) -> None:
    path = record("page.ogg", np.tile(noise, 20), subtype=encoding)
    content = path.read_bytes()
    starts = pages(content)
    assert len(starts) > 4

    for page, following in itertools.pairwise(starts[1:]):
        path.write_bytes(content[:page] + content[following:])
        with pytest.raises(TruncatedAudio, match=f"before byte {page} an Ogg page is missing"):
            check_whole(path)


@pytest.mark.parametrize("encoding", ["VORBIS", "OPUS"])
def test_recordings_one_after_the_other_in_an_ogg_file_are_counted(
    record: Record, noise: Samples, encoding: str
) -> None:
    path = record("chained.ogg", noise, subtype=encoding)
    first = read_samples(path)
    path.write_bytes(3 * path.read_bytes())

    with pytest.raises(TruncatedAudio, match="3 recordings one after the other"):
        read_samples(path)

    np.testing.assert_array_equal(read_samples(path, allow_truncated=True), first)


def test_streams_side_by_side_in_an_ogg_file_are_one_recording(
    record: Record, noise: Samples
) -> None:
    contents = [record(name, noise).read_bytes() for name in ("a.ogg", "b.ogg")]
    split = [
        [content[start:end] for start, end in zip(at, [*at[1:], None], strict=True)]
        for content in contents
        for at in [pages(content)]
    ]
    path = record("both.ogg", noise)
    path.write_bytes(b"".join(page for both in zip(*split, strict=True) for page in both))

    check_whole(path)

    assert not has_open_end(path)


def test_a_tag_after_the_last_page_is_ignored(record: Record, noise: Samples) -> None:
    path = record("tag.ogg", noise)
    content = path.read_bytes()
    path.write_bytes(content + b"TAG" + bytes(125))
    check_whole(path)
    assert not has_open_end(path)

    path.write_bytes(content + b"TAG" + bytes(2**16) + content)

    with pytest.raises(TruncatedAudio, match=f"page at byte {len(content)} is damaged"):
        check_whole(path)


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
