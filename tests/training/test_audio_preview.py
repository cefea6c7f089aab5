import signal

import numpy as np
import pytest

from tests.training.small import CONFIG
from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.training.audio_preview import AudioPreview
from wavenet.training.signals import StopFlag, Stopped


@pytest.mark.slow
def test_a_signal_ends_the_preview() -> None:
    stop = StopFlag()
    preview = AudioPreview(np.zeros(400, np.float32), AudioConfig(), {}, stop)
    model = WaveNet(CONFIG)

    assert preview.generate(model).shape == (400,)
    stop.signal = signal.SIGTERM
    with pytest.raises(Stopped):
        preview.generate(model)
