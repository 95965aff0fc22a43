"""The streaming engine, in pieces; what others use of it."""

from policies.engine.clock import Clock, SimulatedClock, WallClock
from policies.engine.engine import Engine
from policies.engine.sampling import Sampling
from policies.engine.session import Decision, Session, StepEvent

__all__ = ["Clock", "Decision", "Engine", "Sampling", "Session", "SimulatedClock", "StepEvent", "WallClock"]
