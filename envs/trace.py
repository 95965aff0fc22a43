"""A trace: everything one episode produced, replayable and serialisable to JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any

from envs.scenario import Cue, Event


@dataclass
class Reply:
    """One thing the agent said. `cue` is the index of the cue it answered, or None (a false alarm)."""

    start_s: float
    end_s: float | None = None  # None while the agent is still speaking
    text: str = ""
    num_tokens: int = 0
    cue: int | None = None


@dataclass
class StepRecord:
    """What happened at one chunk."""

    kind: int  # the action taken: 0 wait, 1 respond, 2 tokens
    tokens: tuple[int, ...]
    rewards: dict[str, float]  # every component, weighted; they add up to the step's reward
    invalid: bool = False  # the action did not fit and counted as a wait
    now_s: float | None = None  # when the action took effect; None: the trace is of a version that did not tell
    ended: bool = False  # a reply ended in this step

    @property
    def reward(self) -> float:
        """The step's reward: the sum of its components."""
        return sum(self.rewards.values())


@dataclass
class Trace:
    """The record of one episode."""

    seed: int
    ability: str
    num_chunks: int
    cues: tuple[Cue, ...]
    events: tuple[Event, ...]
    user_speech: tuple[tuple[float, float], ...] = ()
    replies: list[Reply] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    probabilities: list[float | None] = field(default_factory=list)  # P(response) a step, where the policy has one

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of all rewards."""
        return sum(step.reward for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Trace":
        """Build a trace from what `to_json` returned."""
        cues = tuple(
            Cue(**{**c, "replies": tuple(c["replies"]), "key_facts": tuple(c["key_facts"])}) for c in data["cues"]
        )
        return cls(
            seed=data["seed"],
            ability=data["ability"],
            num_chunks=data["num_chunks"],
            cues=cues,
            events=tuple(Event(**e) for e in data["events"]),
            user_speech=tuple((s, e) for s, e in data["user_speech"]),
            replies=[Reply(**r) for r in data["replies"]],
            steps=[StepRecord(**{**s, "tokens": tuple(s["tokens"])}) for s in data["steps"]],
            probabilities=data["probabilities"],
        )
