"""Play a recording again in simulation."""

from collections.abc import Iterator

from policies.engine.clock import SimulatedClock
from policies.engine.engine import Engine
from policies.engine.recording import Recording
from policies.engine.sampling import Sampling
from policies.engine.session import StepEvent
from policies.modeling_lalm import LALM


def replay(
    model: LALM, recording: Recording, num_slots: int, *, full_duplex: bool = False
) -> Iterator[list[StepEvent]]:
    """Yield the events of every step of a recording, with the sessions' recorded ids and the latencies measured then.

    Args:
        model: The one that was recorded; another one may decide otherwise.
        recording: Of an engine.
        num_slots: At least as many sessions as were open at once, and those that left in the middle of a step.
        full_duplex: As the engine was.

    Raises:
        CapacityError: when there are too few slots.
    """
    measured, audio = iter(recording.latencies_s), iter(recording.audio)
    engine = Engine(model, num_slots, full_duplex=full_duplex, clock=SimulatedClock(lambda _: next(measured, 0.0)))
    for kind, *details in recording.calls:
        if kind == "step":
            yield engine.step()
        elif kind == "open":
            sampling = details[1]
            engine.open(Sampling(**{**sampling, "stop": tuple(map(tuple, sampling["stop"]))}))  # ids are in this order
        elif kind == "push":
            engine.push(details[0], next(audio))
        else:
            engine.close(details[0])
