"""Distributions are found by name, and everything about one is asked from its class."""

import dataclasses

import pytest
import torch
from hypothesis import given

from tests.architectures import configs
from wavenet.config import OUTPUT_DISTRIBUTIONS, WaveNetConfig
from wavenet.distributions import (
    DISTRIBUTIONS,
    Categorical,
    LogisticMixture,
    build_distribution,
    register,
)
from wavenet.utils.arrays import Array
from wavenet.utils.errors import ConfigError


def test_names_in_the_config_are_those_of_the_registered_classes() -> None:
    registered = {name: cls.fixed_num_classes for name, cls in DISTRIBUTIONS.items()}

    assert registered == OUTPUT_DISTRIBUTIONS


@given(config=configs())
def test_a_config_builds_the_class_of_its_name(config: WaveNetConfig) -> None:
    distribution = build_distribution(config)

    assert type(distribution) is DISTRIBUTIONS[config.output_distribution]
    assert distribution.num_classes == config.quantization_channels
    assert distribution.describe()
    assert len(distribution.decision_edges()) == distribution.num_classes - 1


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="output_distribution.*logistic_mixture"):
        WaveNetConfig(output_distribution="logistic_mixtur")


def test_quantization_channels_that_a_class_does_not_allow_are_refused() -> None:
    with pytest.raises(ConfigError, match="quantization_channels must be 65536"):
        WaveNetConfig(output_distribution="gaussian_mixture")


def test_a_name_cannot_be_registered_twice() -> None:
    class Other(Categorical):
        name = "categorical"

    with pytest.raises(ValueError, match="'categorical' is Categorical already"):
        register(Other)


def test_a_subclass_does_not_inherit_the_compiled_draw() -> None:
    class Shifted(LogisticMixture):
        def decode(self, codes: Array, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return super().decode(codes, dtype) / 2

    assert LogisticMixture.compiled_draw == "logistic_mixture"
    assert Shifted.compiled_draw is None


def test_decision_edges_lie_between_the_values_of_neighboring_codes() -> None:
    for name in DISTRIBUTIONS:
        config = dataclasses.replace(
            WaveNetConfig(),
            output_distribution=name,
            quantization_channels=OUTPUT_DISTRIBUTIONS[name] or 16,
        )
        distribution = build_distribution(config)
        values = distribution.decode(torch.arange(distribution.num_classes), torch.float64)
        edges = distribution.decision_edges()

        assert ((values[:-1] < edges) & (edges < values[1:])).all()
