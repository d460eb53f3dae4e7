"""Run adapted vision models on a device and switch their task in place. Needs no torch."""

from runtime.errors import UdaError
from runtime.prediction import Prediction
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session

__all__ = ["Prediction", "Session", "SessionPool", "UdaError"]
__version__ = "0.1.0"
