"""The ladder of model sizes: `model=small` of the commands, `sizes=[small]` of the benchmarks."""

from wavenet.config import WaveNetConfig

MODEL_SIZES = {
    "small": WaveNetConfig(  # hours on a laptop
        dilations=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 2,
        residual_channels=32,
        gate_channels=64,
        skip_channels=128,
        head_channels=128,
    ),
    "medium": WaveNetConfig(),  # a day on a GPU
    "large": WaveNetConfig(  # the shape of Tacotron 2's vocoder
        dilations=(1, 2, 4, 8, 16, 32) * 4,
        kernel_size=3,
        residual_channels=128,
        gate_channels=256,
        skip_channels=128,
        head_channels=128,
    ),
}
