from pathlib import Path

from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.sources import Source
from wavenet.data.preparation.work_dir import key_of

SOURCE = Source("a.wav", Path("a.wav"), 10, 20)


def test_the_key_changes_with_the_options_and_with_every_source() -> None:
    options = PrepareOptions(sample_rate=16000)
    variants = [
        ([SOURCE], options),
        ([SOURCE], PrepareOptions(sample_rate=16000, clip=True)),
        ([Source("b.wav", SOURCE.path, 10, 20)], options),
        ([Source("a.wav", SOURCE.path, 11, 20)], options),
        ([Source("a.wav", SOURCE.path, 10, 21)], options),
        ([SOURCE, SOURCE], options),
    ]

    keys = [key_of(sources, settings) for sources, settings in variants]

    assert len(set(keys)) == len(keys)


def test_key_does_not_depend_on_num_workers() -> None:
    keys = {
        key_of([SOURCE], PrepareOptions(sample_rate=16000, num_workers=jobs))
        for jobs in (None, 1, 8)
    }

    assert len(keys) == 1
