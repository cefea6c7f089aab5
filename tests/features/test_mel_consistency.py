"""Mel consistency: the stated mel comes back, streams equal complete signals, edge cases hold."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet.features.mel import LogMel
from wavenet.features.mel_consistency import MAX_GAIN_DB, NO_BIN, MelConsistency
from wavenet.presets import MEL_PRESETS

MEL = MEL_PRESETS["8khz"]
SMALL = dataclasses.replace(MEL, n_fft=64, hop_length=16, win_length=64, n_mels=12)


def voice(length: int, rate: int = 8000) -> Tensor:
    """A vibrating harmonic tone over a little noise, `(1, T)`."""
    t = torch.arange(length) / rate
    phase = 2 * torch.pi * (140 * t + torch.sin(20 * t) / 4)
    tone = sum(torch.cos(k * phase) / k for k in range(1, 20))
    noise = torch.randn(length, generator=torch.Generator().manual_seed(0))
    return (0.1 * tone * (1 + torch.sin(9 * t)) + 0.003 * noise)[None]


def white(length: int, seed: int = 1) -> Tensor:
    return 0.05 * torch.randn(1, length, generator=torch.Generator().manual_seed(seed))


def in_pieces(
    consistency: MelConsistency, signal: Tensor, mel: Tensor, sizes: list[int], **start: Any
) -> Tensor:
    """The signal in pieces of these sizes, over and over, and the rest."""
    state, pieces, first, turn = consistency.new_state(mel, len(signal), **start), [], 0, 0
    while first < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        pieces.append(consistency.push(signal[:, first : first + size], state))
        first, turn = first + size, turn + 1
    return torch.cat([*pieces, consistency.flush(state).to(signal)], dim=1)


@pytest.mark.parametrize("name", sorted(MEL_PRESETS))
def test_a_signal_with_its_own_mel_stays_as_it_is(name: str) -> None:
    config = MEL_PRESETS[name]
    signal = voice(3 * config.n_fft + 37, config.sample_rate)

    same = MelConsistency(config)(signal, LogMel(config)(signal))

    torch.testing.assert_close(same, signal, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", sorted(MEL_PRESETS))
def test_each_pass_brings_the_mel_of_noise_closer(name: str) -> None:
    config = MEL_PRESETS[name]
    layer, length = LogMel(config), 20 * config.hop_length
    wanted, noise = layer(voice(length, config.sample_rate)), white(length)

    signals = [noise, *(MelConsistency(config, passes)(noise, wanted) for passes in (1, 3, 10))]

    distances = [float((layer(one) - wanted).abs().mean()) for one in signals]
    assert distances == sorted(distances, reverse=True)
    assert distances[1] < 0.5 * distances[0]
    assert distances[3] < 0.6 * distances[1]


@pytest.mark.parametrize("name", sorted(MEL_PRESETS))
def test_passes_together_come_closer_than_one_by_one(name: str) -> None:
    config = MEL_PRESETS[name]
    layer, length = LogMel(config), 20 * config.hop_length
    signal = voice(length, config.sample_rate)
    wanted, noisy = layer(signal), signal + 0.3 * white(length)

    one_by_one = MelConsistency(config, 1)(noisy, wanted)
    for passes in (2, 3, 4):
        one_by_one = MelConsistency(config, 1)(one_by_one, wanted)
        together = MelConsistency(config, passes)(noisy, wanted)

        distances = [float((layer(x) - wanted).square().mean()) for x in (together, one_by_one)]
        assert distances[0] < 0.8 * distances[1]


def test_bins_beyond_the_bands_keep_their_level() -> None:
    config = dataclasses.replace(MEL, f_min=300.0, f_max=3000.0)
    wanted, noise = LogMel(config)(voice(4000)), white(4000)

    result = MelConsistency(config, 20)(noise, wanted)

    hz = torch.fft.rfftfreq(4000, 1 / 8000)
    for beyond in (hz < 200, hz > 3200):
        before, after = (float(torch.fft.rfft(x)[0, beyond].norm()) for x in (noise, result))
        assert after == pytest.approx(before, rel=0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"power": 2},
        {"log_base": "decibel", "power": 2, "mean": (-60.0,), "std": (30.0,)},
        {"log_base": "log10", "mean": tuple(map(float, range(12))), "norm": "none"},
        {"mel_scale": "htk", "f_min": 300.0, "f_max": 2500.0},
        {"pad_mode": "reflect", "win_length": 33},
        {"n_fft": 75, "win_length": 60, "clamp": True, "mean": (-12.0,), "std": (15.0,)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_convention_keeps_its_signal_and_streams(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **changes)
    signal = voice(700)
    mel = LogMel(config)(signal)
    consistency = MelConsistency(config, 2)

    same, other = consistency(signal, mel), consistency(white(700), mel)

    torch.testing.assert_close(same, signal, atol=2e-6, rtol=0)
    assert torch.equal(in_pieces(consistency, white(700), mel, [7, 61]), other)


@pytest.mark.parametrize("length", [1, 15, 16, 31, 32, 33, 64, 65, 200])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pieces_of_any_size_give_the_same_bytes(
    length: int, pad_mode: Any, dtype: torch.dtype
) -> None:
    config = dataclasses.replace(SMALL, pad_mode=pad_mode)
    signals = torch.cat([white(length), white(length, 2)]).to(dtype)
    mel = LogMel(config)(torch.cat([voice(length), -0.2 * voice(length)]))
    consistency = MelConsistency(config)

    complete = consistency(signals, mel)

    assert complete.shape == signals.shape
    assert complete.dtype == dtype
    for sizes in ([1], [3, 50], [1000]):
        assert torch.equal(in_pieces(consistency, signals, mel, sizes), complete)
    for row in (0, 1):  # an item does not depend on the batch
        alone = consistency(signals[row], mel[row])
        assert torch.equal(alone, complete[row])


@pytest.mark.parametrize("hop", [16, 20, 32])
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_the_latency_is_what_a_stream_holds_back_at_most(hop: int, passes: int) -> None:
    config = dataclasses.replace(SMALL, hop_length=hop)
    consistency = MelConsistency(config, passes)
    state, held, most = consistency.new_state(torch.zeros(12, 60)), 0, 0

    for sample in white(1000).split(1, dim=1):
        held += 1 - consistency.push(sample, state).shape[1]
        most = max(most, held)

    assert most == consistency.latency
    assert consistency.latency <= passes * config.win_length
    assert consistency.flush(state).shape == (1, held)


def test_a_prompt_is_heard_but_not_returned() -> None:
    consistency = MelConsistency(SMALL)
    signal, mel = white(500), LogMel(SMALL)(voice(500))
    complete = consistency(signal, mel)

    continued = in_pieces(consistency, signal[:, 123:], mel, [40], prompt=signal[:, :123])

    assert torch.equal(continued, complete[:, 123:])


def test_a_stream_does_not_change_what_it_is_given() -> None:
    consistency = MelConsistency(SMALL)
    signal, mel = white(300), LogMel(SMALL)(voice(300))
    before = signal.clone(), mel.clone()

    consistency(signal, mel)

    assert torch.equal(signal, before[0])
    assert torch.equal(mel, before[1])


def test_silence_stays_silent_whatever_the_mel_says() -> None:
    silence = torch.zeros(1, 2000)

    result = MelConsistency(MEL)(silence, LogMel(MEL)(voice(2000)))

    assert torch.equal(result, silence)


def test_noise_becomes_silent_where_the_mel_is_at_its_floor() -> None:
    silent = LogMel(MEL)(torch.zeros(1, 4000))

    result = MelConsistency(MEL)(white(4000), silent)

    assert result.abs().max() < 1e-3


@pytest.mark.parametrize(("value", "sign"), [(20.0, 1), (-20.0, -1)], ids=["louder", "softer"])
def test_a_pass_changes_the_level_by_40_db_at_most(value: float, sign: int) -> None:
    noise = 1e-3 * white(4000)

    result = MelConsistency(MEL, 1)(noise, torch.full((64, 50), value))

    gain_db = 20 * torch.log10(result.norm() / noise.norm())
    assert float(gain_db) == pytest.approx(sign * MAX_GAIN_DB, abs=0.1)


@pytest.mark.parametrize("value", [-1e30, -50.0, 50.0, 1e30])
@pytest.mark.parametrize("name", ["8khz", "r9y9", "wavernn"])
def test_a_mel_that_no_signal_has_gives_a_finite_signal(name: str, value: float) -> None:
    config = MEL_PRESETS[name]
    mel = torch.full((config.n_mels, 6), 0.3)
    mel[::3, 1::2] = value

    result = MelConsistency(config, 10)(white(6 * config.hop_length), mel)

    assert result.isfinite().all()
    assert result.abs().max() <= 1


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_bands_without_a_bin_do_not_matter() -> None:
    config = dataclasses.replace(MEL, n_mels=256, n_fft=320)  # low ones are narrower than a bin
    signal = voice(3000)
    mel = LogMel(config)(signal)
    weights = LogMel(config).bank.sum(dim=1)
    empty = weights < NO_BIN * weights.max()

    changed = MelConsistency(config)(signal, torch.where(empty[:, None], 5.0, mel))

    assert empty.any()
    torch.testing.assert_close(changed, signal, atol=5e-3, rtol=0)


def test_a_mel_that_goes_on_does_not_raise_the_last_samples() -> None:
    t = torch.arange(8000) / 8000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * t)[None]
    mel = LogMel(MEL)(tone)

    start = MelConsistency(MEL)(tone[:, :4000], mel)

    assert start.abs().max() < 0.33


def test_the_last_frame_is_repeated_where_the_mel_is_shorter() -> None:
    consistency, mel = MelConsistency(SMALL), LogMel(SMALL)(voice(320))[0]

    repeated = torch.cat([mel, mel[:, -1:].expand(-1, 10)], dim=1)

    assert torch.equal(consistency(white(480), mel), consistency(white(480), repeated))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MelConsistency(MEL, 0), "passes must be 1 or more, got 0"),
        (
            lambda: MelConsistency(dataclasses.replace(SMALL, hop_length=40)),
            "hop_length must be 32 or less, half of win_length, got 40",
        ),
        (lambda: MelConsistency(SMALL).new_state(torch.zeros(3, 4)), r"mel must be .*\(3, 4\)"),
        (lambda: MelConsistency(SMALL).new_state(torch.zeros(12, 0)), "at least one frame"),
        (
            lambda: MelConsistency(SMALL).new_state(torch.full((12, 4), float("nan"))),
            "mel must be finite",
        ),
        (
            lambda: MelConsistency(SMALL)(torch.full((9,), float("inf")), torch.zeros(12, 4)),
            "waveform must be finite",
        ),
    ],
    ids=["passes", "hop", "bands", "frames", "nan", "inf"],
)
def test_a_wrong_argument_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_state_at_its_end_is_refused() -> None:
    consistency = MelConsistency(SMALL)
    state = consistency.new_state(torch.zeros(12, 4))
    consistency.flush(state)

    for call in (lambda: consistency.push(white(5), state), lambda: consistency.flush(state)):
        with pytest.raises(ValueError, match="new_state"):
            call()
