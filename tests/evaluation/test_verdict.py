"""The verdict on a model: one sentence, against the baseline that its kind has."""

import dataclasses

import pytest

from wavenet.evaluation.metrics import ResynthesisMetrics
from wavenet.evaluation.verdict import judge

METRICS = ResynthesisMetrics(1.5, None, 1.0, None, 0.0, 3.2, 0.95)


@pytest.mark.parametrize(
    ("own", "is_better", "words"),
    [
        (5.314, False, "0.07 bits worse than an adaptive linear predictor (5.314 against 5.244"),
        (4.29, True, "0.95 bits better than an adaptive linear predictor (4.290 against 5.244"),
    ],
)
def test_bits_are_compared_with_linear_prediction(own: float, is_better: bool, words: str) -> None:
    found = judge(
        {"model": own, "adaptive_linear_prediction": 5.244},
        {},
        model="model",
    )

    assert found is not None
    assert found.is_better is is_better
    assert found.text.startswith(words)
    assert found.text.endswith(": noise") is not is_better


@pytest.mark.parametrize(
    ("changes", "is_better", "words"),
    [
        ({"pesq": 2.9, "stoi": 0.9}, True, "better than Griffin-Lim"),
        ({"pesq": 2.9, "stoi": 0.96}, None, "neither better nor worse than Griffin-Lim"),
        ({"pesq": 3.5, "stoi": 0.96}, False, "worse than Griffin-Lim"),
    ],
)
def test_a_vocoder_is_compared_by_what_is_heard(
    changes: dict[str, float], is_better: bool | None, words: str
) -> None:
    other = dataclasses.replace(METRICS, mel_db=0.5, **changes)

    found = judge(
        {"model": 9.0, "adaptive_linear_prediction": 5.0},
        {"resynthesis": METRICS, "Griffin-Lim": other},
        model="model",
    )

    assert found is not None
    assert found.is_better is is_better
    assert found.text.startswith(words)
    assert f"PESQ 3.20 against {other.pesq:.2f}, STOI 0.950 against" in found.text
    assert "mel" not in found.text


def test_without_pesq_and_stoi_the_mel_decides() -> None:
    own = dataclasses.replace(METRICS, pesq=None, stoi=None)
    means = {"resynthesis": own, "Griffin-Lim": dataclasses.replace(own, mel_db=1.25)}

    found = judge({}, means, model="model")

    assert found is not None
    assert found.is_better is False
    assert "mel distance 1.50 against 1.25 dB" in found.text


@pytest.mark.parametrize(
    ("mel_db", "is_better", "words"),
    [
        (2.2, False, "worse than Griffin-Lim with 3 passes, which needs no training (mel"),
        (1.904, None, "about as good as Griffin-Lim with 3 passes"),
        (1.8, True, "better than Griffin-Lim with 3 passes"),
    ],
)
def test_mel_distances_are_compared_after_the_same_passes(
    mel_db: float, is_better: bool | None, words: str
) -> None:
    own = dataclasses.replace(METRICS, pesq=None, stoi=None, mel_db=mel_db)
    means = {
        "resynthesis": dataclasses.replace(own, mel_db=4.0),
        "resynthesis, 3 passes": own,
        "Griffin-Lim": dataclasses.replace(own, mel_db=2.204),
        "Griffin-Lim, 3 passes": dataclasses.replace(own, mel_db=1.908 if mel_db > 2 else 1.901),
    }

    found = judge({}, means, model="model", passes=3)

    assert found is not None
    assert found.is_better is is_better
    assert found.text.startswith(words)


@pytest.mark.parametrize(
    ("passes", "is_better", "words"),
    [
        ({"pesq": 2.6, "stoi": 0.9}, True, "better than Griffin-Lim, which needs no training"),
        ({"pesq": 2.92, "stoi": 0.92}, True, "better than Griffin-Lim with 3 passes, which"),
        ({"pesq": 3.4, "stoi": 0.96}, False, "worse than Griffin-Lim with 3 passes, which"),
        ({"pesq": 3.2, "stoi": 0.95}, None, "about as good as Griffin-Lim with 3 passes, which"),
        ({"pesq": 3.4, "stoi": 0.9}, None, "neither better nor worse than Griffin-Lim with 3 pass"),
    ],
)
def test_what_is_heard_is_compared_with_the_stronger_griffin_lim(
    passes: dict[str, float], is_better: bool | None, words: str
) -> None:
    means = {
        "resynthesis, 3 passes": METRICS,
        "Griffin-Lim": dataclasses.replace(METRICS, pesq=2.9, stoi=0.91),
        "Griffin-Lim, 3 passes": dataclasses.replace(METRICS, **passes),
    }

    found = judge({}, means, model="model", passes=3)

    assert found is not None
    assert found.is_better is is_better
    assert found.text.startswith(words)


@pytest.mark.parametrize(
    ("changes", "is_better", "words"),
    [
        ({"pesq": 3.1501, "stoi": 0.945}, None, "about as good as Griffin-Lim"),
        ({"pesq": 3.25, "stoi": 0.955}, None, "about as good as Griffin-Lim"),
        ({"pesq": 3.149, "stoi": 0.955}, True, "better than Griffin-Lim"),
        ({"pesq": 3.25, "stoi": 0.944}, True, "better than Griffin-Lim"),
        ({"pesq": 3.251, "stoi": 0.954}, False, "worse than Griffin-Lim"),
        ({"pesq": 3.149, "stoi": 0.956}, None, "neither better nor worse than Griffin-Lim"),
    ],
)
def test_a_difference_that_is_not_heard_decides_nothing(
    changes: dict[str, float], is_better: bool | None, words: str
) -> None:
    other = dataclasses.replace(METRICS, **changes)

    found = judge({}, {"resynthesis": METRICS, "Griffin-Lim": other}, model="model")

    assert found is not None
    assert found.is_better is is_better
    assert found.text.startswith(words)


def test_figures_have_as_many_decimals_as_tell_them_apart() -> None:
    own = dataclasses.replace(METRICS, pesq=3.2012, stoi=0.979)
    other = dataclasses.replace(METRICS, pesq=3.2034, stoi=0.984)

    found = judge({}, {"resynthesis": own, "Griffin-Lim": other}, model="model")

    assert found is not None
    assert "(PESQ 3.201 against 3.203, STOI 0.979 against 0.984)" in found.text


def test_equal_bits_are_not_better() -> None:
    bits = {"model": 5.2438, "adaptive_linear_prediction": 5.2441}

    found = judge(bits, {}, model="model")

    assert found is not None
    assert found.is_better is False
    assert found.text.startswith("no better than an adaptive linear predictor (5.244 against 5.244")


def test_without_a_baseline_there_is_no_verdict() -> None:
    assert judge({"model": 4.0}, {}, model="model") is None
