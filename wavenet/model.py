"""WaveNet: the distribution of each sample of a waveform, given all samples before it.

Two passes give the same numbers. `forward` processes a whole waveform, for training; `step`
processes one sample and updates a state that its caller owns, for generation. `prefill` brings that
state to the end of a prompt in one parallel pass.

WaveNet, arXiv:1609.03499.
"""

from __future__ import annotations  # help() shows Array by its name

from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavenet.config import WaveNetConfig
from wavenet.distributions import Mixture, build_distribution
from wavenet.distributions.companding import mu_law_class_of_code
from wavenet.linear_predictor import scaled_residual
from wavenet.mel_predictor import MelPredictor
from wavenet.model_conditioning import Conditioned
from wavenet.model_state import WaveNetState as WaveNetState
from wavenet.modules import (
    CausalConv1d,
    CausalEmbedding,
    GlobalConditioner,
    Head,
    LocalConditioner,
    ResidualStack,
)
from wavenet.modules.checks import check_signal, check_step_is_whole
from wavenet.modules.empty import EmptyWeights
from wavenet.modules.fusable import is_transformed
from wavenet.modules.standard import first_difference, replaces_method
from wavenet.past_predictor import PastPredictor
from wavenet.pretrained_mixin import PretrainedMixin
from wavenet.utils.arrays import Array, as_tensor
from wavenet.waveform import check_samples_finite, shape_of_input, shift_right

MU_LAW_CLASSES = 256  # of input_type=mu-law


class WaveNet(PretrainedMixin, Conditioned):
    """Autoregressive model of a waveform, with or without conditioning.

    Args:
        config: Shape of the weights.

    Shape:
        - Input: waveform `(B, T)`, samples in [-1, 1]; if the config has them, `local`
          `(B, C, F)`, whose frame `f` starts at sample `f * hop`, `speaker` `(B,)`, `vector`
          `(B, V)`
        - Output: `(B, P, T)`; `[:, :, t]` are the parameters of sample `t` given samples before
          `t` and the conditioning of `t`

    Inputs are converted to the dtype of the weights, after `waveform` has been quantized.

    Example:
        >>> import torch, wavenet
        >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2, 4)))
        >>> loss = model.nll(torch.zeros(1, 100)).mean()
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution = build_distribution(config)
        width, kernel_size = config.residual_channels, config.input_kernel_size
        self.predictor = None
        if config.predictor is not None:
            kind = MelPredictor if config.predictor.source == "mel" else PastPredictor
            self.predictor = kind(config.predictor)
        self.num_signals = 1 if config.predictor is None else 3  # sample, prediction, residual
        self.input: CausalEmbedding | CausalConv1d
        if config.input_type == "scalar":
            self.input = CausalConv1d(self.num_signals, width, kernel_size, bias=config.bias)
        else:
            is_mu_law = config.input_type == "mu-law"
            self.input = CausalEmbedding(
                MU_LAW_CLASSES if is_mu_law else config.quantization_channels,
                width,
                kernel_size,
                bias=config.bias,
                num_signals=self.num_signals,
                class_of_code=mu_law_class_of_code(MU_LAW_CLASSES) if is_mu_law else None,
            )
        self.stack = ResidualStack(
            config.dilations,
            width,
            config.gate_channels,
            config.skip_channels,
            config.kernel_size,
            bias=config.bias,
            dropout=config.dropout,
            residual_scale=config.residual_scale,
            skip_scale=config.skip_scale,
            conditioning_channels=config.conditioning_channels,
        )
        num_params = self.distribution.num_params
        self.head = Head(config.skip_channels, config.head_channels, num_params, bias=config.bias)
        initial_bias = self.distribution.initial_bias()
        if self.head.output.bias is not None and initial_bias is not None:
            if self.predictor is not None:
                initial_bias[-config.num_mixtures :] = 0  # log scales, in units of the residual's
            with torch.no_grad():
                self.head.output.bias.copy_(initial_bias)
        self.global_conditioner = None
        if config.has_global_conditioning:
            self.global_conditioner = GlobalConditioner(
                config.global_channels,
                config.num_speakers,
                config.global_in_channels,
                conditioning_dropout=config.conditioning_dropout,
            )
        self.local_conditioner = None
        if config.local is not None:
            self.local_conditioner = LocalConditioner(**asdict(config.local))
        if config.weight_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv1d):
                    weight_norm(module)

    def forward(
        self,
        waveform: Array,
        *,
        local: Array | None = None,
        speaker: Array | None = None,
        vector: Array | None = None,
    ) -> Tensor:
        """Return the parameters of every sample, `(B, P, T)`, for a waveform `(B, T)`.

        Raises:
            ValueError: The waveform has another shape or no sample, is not floating point or, on
                the CPU, not finite; or an input of the conditioning is missing, has another
                shape, or is not the model's.
        """
        waveform = as_tensor("waveform", waveform, self)
        shape = shape_of_input(waveform)
        if not is_transformed(waveform):
            check_samples_finite(waveform)
        rows, conditioning = self.conditioning_parts(
            *shape, local=local, speaker=speaker, vector=vector
        )
        return self._params(waveform, rows, conditioning)

    def forward_from_conditioning(self, waveform: Tensor, conditioning: Tensor | None) -> Tensor:
        """Return the parameters of every sample, `(B, P, T)`, given its conditioning, `(B, C, T)`.

        `forward` is this with the output of `compute_conditioning`.
        """
        return self._params(waveform, *self.split(conditioning))

    def _params(self, waveform: Tensor, rows: Tensor | None, conditioning: Tensor | None) -> Tensor:
        codes, prediction, rows = self._inputs(shift_right(waveform), rows)
        params: Tensor = self.head(self.stack(self.input(codes), conditioning))
        return self._around(prediction, None if rows is None else rows[:, -1], params)

    def nll(
        self,
        waveform: Array,
        *,
        local: Array | None = None,
        speaker: Array | None = None,
        vector: Array | None = None,
    ) -> Tensor:
        """Return the negative log-likelihood of every sample in nats, `(B, T)`; as `forward`.

        Samples outside of [-1, 1] count as the outermost codes.

        Example:
            >>> import torch, wavenet
            >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2, 4)))
            >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            >>> for waveform in torch.rand(3, 4, 100) - 0.5:  # batches, (B, T)
            ...     optimizer.zero_grad()
            ...     model.nll(waveform).mean().backward()
            ...     optimizer.step()
        """
        waveform = as_tensor("waveform", waveform, self)
        params = self(waveform, local=local, speaker=speaker, vector=vector)
        return self.distribution.nll(params, waveform)

    def new_state(self, batch_size: int = 1) -> WaveNetState:
        """Return the state before the first sample: silence.

        Raises:
            ValueError: A module has hooks, or a `forward`, that `step` would leave out.
        """
        for name, module in (("the model", self), ("head", self.head)):
            check_step_is_whole(module, name)
        queues = [self.input.new_queue(batch_size), *self.stack.new_queues(batch_size)]
        if self.predictor is not None:
            queues.append(self.predictor.new_queue(batch_size))
        return WaveNetState(queues)

    def prefill(
        self, state: WaveNetState, prompt: Tensor, conditioning: Tensor | None = None
    ) -> None:
        """Bring a fresh state to the end of a prompt, in one parallel pass.

        The result is the same as stepping over the samples before the prompt's last one, which is
        the input of the next `step`.

        Args:
            state: Fresh from `new_state`, changed in place.
            prompt: Samples in [-1, 1], `(B, T)`.
            conditioning: Of these samples, `(B, C, T)`, from `compute_conditioning`.

        Raises:
            ValueError: The state is not fresh, or the prompt no waveform.
        """
        if state.position:
            raise ValueError(f"prefill needs a fresh state, got one at position {state.position}")
        _, position = shape_of_input(prompt)
        field = self.config.receptive_field  # no queue reaches further back
        rows, conditioning = self.split(conditioning)
        before = shift_right(prompt)
        codes, prediction, rows = self._inputs(before, rows)
        recent_input = codes[..., -field:]
        recent = None if conditioning is None else conditioning[..., -field:]
        self.input.prefill(state.queues[0], recent_input, position)
        queues = state.queues[1 : 1 + len(self.stack.blocks)]
        self.stack.prefill(queues, self.input(recent_input), position, recent)
        state.position = position
        if self.predictor is not None and prediction is not None and rows is not None:
            samples = self.distribution.quantize(before)
            self.predictor.prefill(state.queues[-1], samples, prediction, rows[..., -1])

    def step(
        self, sample: Tensor, state: WaveNetState, conditioning: Tensor | None = None
    ) -> Tensor:
        """Return the parameters of the next sample, `(B, P)`, and advance the state by one.

        Args:
            sample: The sample before it in [-1, 1], `(B,)`; zeros before the first.
            state: From `new_state`, changed in place.
            conditioning: Of the next sample, `(B, C)`, from `compute_conditioning`.

        Raises:
            ValueError: An argument has another shape, or the state is another model's.
        """
        if sample.shape != state.queues[0].shape[:1]:
            raise ValueError(
                f"sample must be ({len(state.queues[0])},), one value per item of the state, got "
                f"{tuple(sample.shape)}"
            )
        signals, prediction, scale = self.distribution.quantize(sample).unsqueeze(1), None, None
        if self.mel_predictor is not None and conditioning is not None:  # else the stack checks it
            channels = self.mel_predictor.num_rows + self.config.conditioning_channels
            check_signal("conditioning", conditioning, channels, signals)
        rows, conditioning = self.split(conditioning)
        if self.predictor is not None:
            residual, prediction, scale = self.predictor.step(
                signals[:, 0], state.queues[-1], state.position, rows
            )
            signals = torch.stack([signals[:, 0].to(residual), prediction, residual], dim=1)
        x = self._codes_of(signals.unsqueeze(-1)).squeeze(-1)
        x = self.input.step(x, state.queues[0], state.position)
        queues = state.queues[1 : 1 + len(self.stack.blocks)]
        skips = self.stack.step(x, queues, state.position, conditioning)
        assert isinstance(skips, Tensor)  # output="skip"
        state.position += 1
        return self._around(prediction, scale, self.head.step(skips))

    def _apply(self, *args: Any, **kwargs: Any) -> WaveNet:
        """Move, as `to`, `cuda` and the like do, and take along what is no part of a module."""
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        weight = next(self.parameters(), None)
        if weight is not None:
            self.distribution.to(weight.device)
        return self

    def nonstandard_part(self) -> str | None:
        """Return what differs from `WaveNet(self.config)`, weights aside; `None` for nothing.

        The sentence names the first module that was replaced, subclassed, given hooks or built
        with other options. Implementations that know only the standard model refuse with it.
        """
        standard = _standard_model(self.config)
        distribution, wanted = self.distribution, standard.distribution
        if type(distribution) is not type(wanted):
            return f"distribution is {type(distribution).__name__}, not {type(wanted).__name__}"
        for name, value in vars(distribution).items():
            expected = vars(wanted).get(name)
            if isinstance(value, (int, float, str)) and value != expected:
                return f"distribution has {name}={value}, not {expected}"
            if replaces_method(distribution, name):
                return f"distribution has a {name} of its own, set on the instance"
        if self.predictor is not None and self.predictor.has_other_coefficients:
            return "predictor has coefficients of its own, set on the instance"
        return first_difference(self, standard)

    def _inputs(
        self, before: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the first layer's input for a waveform delayed by one sample.

        The predictor adds two signals: the prediction of the sample, and the residual of the one
        before it. The prediction and its coefficients are returned too.
        """
        samples = self.distribution.quantize(before)
        if self.predictor is None:
            return self._codes_of(samples.unsqueeze(1)), None, None
        coming = F.pad(samples, (0, 1))[:, 1:].float()  # the last is predicted, not seen
        if isinstance(self.predictor, PastPredictor):
            rows = self.predictor(coming)
        assert rows is not None  # the mel's come with the conditioning
        prediction = self.predictor.predict(coming, rows)
        residual = shift_right(scaled_residual(coming, prediction, rows[:, -1]))
        signals = torch.stack([samples.to(rows), prediction, residual], dim=1)
        return self._codes_of(signals), prediction, rows

    def _codes_of(self, signals: Tensor) -> Tensor:
        """Return the first layer's input for its signals, `(B, signals, T)`.

        That is codes, `(B, T)` for a single signal, or values.
        """
        if isinstance(self.input, CausalEmbedding):
            codes = self.distribution.encode(signals)
            return codes.squeeze(1) if self.num_signals == 1 else codes
        return self.as_weights(self.distribution.quantize(signals))

    def _around(self, prediction: Tensor | None, scale: Tensor | None, params: Tensor) -> Tensor:
        """Return the parameters of samples for those of residuals; as they are for no prediction.

        The network's unit is the scale of the residual.
        """
        if prediction is None or scale is None:
            return params
        assert isinstance(self.distribution, Mixture)
        return self.distribution.affine(params, prediction, scale)


def unwrap(model: nn.Module) -> WaveNet:
    """Return the `WaveNet` inside what torch.compile, DistributedDataParallel or DataParallel made.

    Raises:
        TypeError: There is no `WaveNet` inside.
    """
    inner: Any = model
    while not isinstance(inner, WaveNet):
        if isinstance(inner, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = inner.module
        elif isinstance(getattr(inner, "_orig_mod", None), nn.Module):  # torch.compile's wrapper
            inner = inner._orig_mod
        else:
            raise TypeError(
                "expected a WaveNet, or one wrapped by torch.compile, DistributedDataParallel or "
                f"DataParallel, got {type(model).__name__}"
            )
    return inner


def meta_model(config: WaveNetConfig) -> WaveNet:
    """Return a model whose weights take no memory, to look at its modules or to assign others.

    Its distribution has its tables. The random state does not change.
    """
    with EmptyWeights():
        return WaveNet(config).to("meta")


@lru_cache(maxsize=4)
def _standard_model(config: WaveNetConfig) -> WaveNet:
    """Return a model that others are only compared with: each sampler asks, once or twice."""
    return meta_model(config)
