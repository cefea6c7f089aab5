import signal

import numpy as np
import pytest

from tests.training.small import CONFIG
from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.training.audio_preview import Preview
from wavenet.training.signals import StopFlag, Stopped


@pytest.mark.slow
def test_a_preview_is_left_when_a_signal_came() -> None:
    stop = StopFlag()
    preview = Preview(np.zeros(400, np.float32), AudioConfig(), {}, stop)
    model = WaveNet(CONFIG)

    assert preview.generated(model).shape == (400,)
    stop.signal = signal.SIGTERM
    with pytest.raises(Stopped):
        preview.generated(model)
