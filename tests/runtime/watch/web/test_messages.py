"""Messages to the page as a browser reads them."""

import json
import struct

import numpy as np
import pytest

from runtime.prediction import Prediction
from runtime.sources.live.base import LiveFrame
from runtime.watch.observation import Observation
from runtime.watch.web.messages import frame, message
from tests.runtime.watch.observed import FRAME


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_browser_can_read_what_an_engine_that_overflows_gives():
    logits = np.array([np.inf, 0, 1], np.float32)
    prediction = Prediction("a-b", ("cup", "key", "mug"), logits)
    observation = Observation("door", LiveFrame(FRAME, 7, 0.0, 0.0), prediction, milliseconds=1.5)
    sent = message(frame(observation), b"picture")
    length, picture = struct.unpack_from("<II", sent)
    assert (picture, sent[8 + length :]) == (7, b"picture")
    found = json.loads(sent[8 : 8 + length], parse_constant=lambda name: pytest.fail(name))
    assert found["number"] == 7 and found["top"][0] == ["cup", None]
