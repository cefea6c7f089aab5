# %% [markdown]
# # Quickstart
#
# A model that ships with the package speaks, is conditioned, streams, and gets another block.
# Needs the extra `train` and Jupyter.

# %%
import matplotlib.pyplot as plt
import torch
from IPython.display import Audio, display
from torch import Tensor

import wavenet
from wavenet.features.mel import LogMel, read_mel
from wavenet.modules import ResidualBlock
from wavenet.pretrained import find_model

print(*wavenet.models(), sep="\n")

# %% [markdown]
# **Generate.** `demo_voice` is a vocoder; a mel spectrogram of a sentence lies with its weights.

# %%
model, audio, training = wavenet.load("demo_voice")
assert audio.mel is not None
mel = read_mel(find_model("demo_voice") / "example.safetensors", audio.mel)[:, :100]  # (40, F)
sampler = wavenet.make_sampler(model)
signal = sampler.generate(local=mel, seed=1, sampling=wavenet.SamplingConfig(temperature=0.8))
print(f"generated: {signal.shape[1] / audio.sample_rate:.1f} seconds")

# %% [markdown]
# **Look and listen.**

# %%
figure, (above, below) = plt.subplots(2, figsize=(9, 4), layout="constrained")
above.plot(signal[0].numpy(), linewidth=0.3)
below.imshow(LogMel(audio.mel)(signal)[0].numpy(), origin="lower", aspect="auto")
plt.show()
display(Audio(signal[0].numpy(), rate=audio.sample_rate))

# %% [markdown]
# **Condition.** The frames decide what is spoken: the same ones backwards, and after a prompt.

# %%
backwards = sampler.generate(local=mel.flip(1), seed=1)
continued = sampler.generate(4000, local=mel, prompt=signal[:, :4000], seed=2)
display(Audio(torch.cat([backwards, continued], dim=1)[0].numpy(), rate=audio.sample_rate))

# %% [markdown]
# **Stream.** The same samples as from `generate`, 50 ms at a time.

# %%
chunks = list(sampler.stream(2000, local=mel, chunk=400, seed=1))
same = torch.equal(torch.cat(chunks, dim=1), sampler.generate(2000, local=mel, seed=1))
print(f"streamed: {len(chunks)} chunks, equal to generate: {same}")

# %% [markdown]
# **Swap a block.** The first one gets another gate and keeps its weights. Such a model trains as
# any other; the compiled sampler refuses it by name, `reference` computes it.


# %%
def softsign_gate(y: Tensor) -> Tensor:
    filtered, gate = y.chunk(2, dim=1)
    return torch.nn.functional.softsign(filtered) * gate.sigmoid()


shape = model.config
widths = shape.residual_channels, shape.gate_channels, shape.skip_channels
conditioning = shape.conditioning_channels
block = ResidualBlock(*widths, gate=softsign_gate, conditioning_channels=conditioning)
block.load_state_dict(model.stack.blocks[0].state_dict())
model.stack.blocks[0] = block
try:
    wavenet.make_sampler(model, "cpu")
except ValueError as error:
    print(f"cpu refuses: {error}")
swapped = wavenet.make_sampler(model, "reference").generate(400, local=mel, seed=1)
print(f"swapped: {tuple(swapped.shape)}")
