"""What was asked of a live engine, in its order, and how long it thought: to be played again in simulation."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from envs.errors import PolicyError, first_line
from envs.files import write_bytes
from envs.scenario import Audio
from policies.engine.sampling import Sampling
from policies.engine.session import StepEvent

_FORMAT = "soundflow-recording-2"


@dataclass(frozen=True)
class Outcome:
    """What a step was to a session beside what it decided."""

    decision_latency_s: float | None
    first_token_latency_s: float | None
    error: str | None


@dataclass
class Recording:
    """The calls of an engine. Decisions follow from them alone, whatever the clock: `replay` takes the same ones.

    It grows with all that is pushed: 3.7 MB a minute of a session.

    Attributes:
        calls: ["open", session, sampling, instruction], ["push", session, number of samples], ["steer", session,
            sampling or None, respond_at, cut], ["step"] or ["close", session].
        audio: What was pushed, in the order of the calls.
        steps: What every step gave: of each session that was in it to the end, its latencies of decision and first
            token; of one that the engine ended, why.
    """

    calls: list[list[Any]] = field(default_factory=list)
    audio: list[Audio] = field(default_factory=list)
    steps: list[dict[int, Outcome]] = field(default_factory=list)

    def opened(self, session: int, sampling: Sampling, instruction: Sequence[int] = ()) -> None:
        """Note that a session was opened."""
        self.calls.append(["open", session, asdict(sampling), list(instruction)])

    def pushed(self, session: int, samples: Audio) -> None:
        """Note what a session pushed."""
        self.calls.append(["push", session, len(samples)])
        self.audio.append(np.array(samples, np.float32))

    def steered(self, session: int, sampling: Sampling | None, respond_at: int | None, cut: bool) -> None:
        """Note how a session was told to go on."""
        self.calls.append(["steer", session, None if sampling is None else asdict(sampling), respond_at, cut])

    def stepped(self) -> None:
        """Note that a step began: what was pushed before it is what it took."""
        self.calls.append(["step"])

    def closed(self, session: int) -> None:
        """Note that a session was closed."""
        self.calls.append(["close", session])

    def happened(self, events: Sequence[StepEvent]) -> None:
        """Note what a step gave."""
        step = {}
        for e in events:
            error = None if e.error is None else str(e.error)
            step[e.session] = Outcome(e.decision_latency_s, e.first_token_latency_s, error)
        self.steps.append(step)

    @property
    def thinking_times(self) -> list[float]:
        """Seconds to each decision, as `thinking_s` of an environment and `SimulatedClock` take them."""
        outcomes = (outcome for step in self.steps for outcome in step.values())
        return [o.decision_latency_s for o in outcomes if o.decision_latency_s is not None]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file; it appears under its name when it is whole. Nobody may use the engine meanwhile.

        Raises:
            PolicyError: when it cannot be written.
        """
        path = Path(path)
        audio = torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *self.audio]))
        steps = [{session: astuple(outcome) for session, outcome in step.items()} for step in self.steps]
        metadata = {"format": _FORMAT, "calls": json.dumps(self.calls), "steps": json.dumps(steps)}
        try:
            write_bytes(path, save({"audio": audio}, metadata))
        except (OSError, SafetensorError) as error:
            raise PolicyError(first_line(f"{path}: the recording cannot be written: {error}")) from error

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Read what `save` wrote.

        Raises:
            PolicyError: when it cannot be read, or is no recording.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise PolicyError(f"{path}: no recording of an engine (format {metadata.get('format')!r})")
                calls, samples = json.loads(metadata["calls"]), file.get_tensor("audio").numpy()
                steps = [
                    {int(session): Outcome(*outcome) for session, outcome in step.items()}
                    for step in json.loads(metadata["steps"])
                ]
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise PolicyError(first_line(f"{path}: the recording cannot be read: {error}")) from error
        sizes = [call[2] for call in calls if call[0] == "push"]
        if sum(sizes) != len(samples):
            raise PolicyError(f"{path}: the recording holds {len(samples)} samples, its calls name {sum(sizes)}")
        return cls(calls, np.split(samples, np.cumsum(sizes)[:-1]), steps)
