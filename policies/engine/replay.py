"""Play a recording again in simulation."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from envs.errors import PolicyError, SessionError
from policies.engine.clock import SimulatedClock
from policies.engine.engine import Engine
from policies.engine.recording import Recording
from policies.engine.sampling import Sampling
from policies.engine.session import StepEvent
from policies.modeling_lalm import LALM


def replay(
    model: LALM,
    recording: Recording,
    num_slots: int,
    *,
    full_duplex: bool = False,
    chunks_per_step: int | None = None,
) -> Iterator[list[StepEvent]]:
    """Yield the events of every step of a recording: the same decisions, with the latencies that they had.

    A session that left in the middle of a step has no event of it; one that the engine ended, ends again.

    Args:
        model: The one that was recorded; another one may decide otherwise, and then has no latencies.
        recording: Of an engine.
        num_slots: At least as many sessions as were open at once.
        full_duplex: As the engine was.
        chunks_per_step: As the engine's.

    Raises:
        CapacityError: when there are too few slots.
        PolicyError: when the recording ends in the middle of a step.
    """
    engine = Engine(model, num_slots, full_duplex=full_duplex, clock=SimulatedClock(), chunks_per_step=chunks_per_step)
    audio, outcomes = iter(recording.audio), iter(recording.steps)
    for kind, *details in recording.calls:
        if kind == "step":
            outcome = next(outcomes, None)
            if outcome is None:
                raise PolicyError("the recording ends in the middle of a step; save it when nobody steps")
            decided = {event.session: event for event in engine.step()}
            events = []
            for session, was in outcome.items():
                if was.error is not None:
                    chunk = decided[session].chunk if session in decided else -1
                    ended = SessionError(was.error)
                    events.append(StepEvent(session, chunk, "ended", None, (), False, error=ended))
                elif session in decided:
                    events.append(
                        dataclasses.replace(
                            decided[session],
                            decision_latency_s=was.decision_latency_s,
                            first_token_latency_s=was.first_token_latency_s,
                        )
                    )
            yield events
        elif kind == "open":
            _, sampling, instruction = details
            engine.open(_sampling(sampling), instruction)  # ids are in this order
        elif kind == "push":
            engine.push(details[0], next(audio))
        elif kind == "steer":
            session, fields, respond_at, cut = details
            steered = None if fields is None else _sampling(fields)
            engine.steer(session, sampling=steered, respond_at=respond_at, cut=cut)
        else:
            engine.close(details[0])


def _sampling(fields: dict[str, Any]) -> Sampling:
    return Sampling(**{**fields, "stop": tuple(map(tuple, fields["stop"]))})
