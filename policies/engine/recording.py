"""What was asked of a live engine, in its order, and how long it thought: to be played again in simulation."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from envs.errors import PolicyError
from envs.scenario import Audio
from policies.engine.sampling import Sampling
from policies.engine.session import StepEvent

_FORMAT = "soundflow-recording-1"


@dataclass
class Recording:
    """The calls of an engine. Decisions follow from them alone, whatever the clock: `replay` takes the same ones.

    Attributes:
        calls: ["open", session, sampling], ["push", session, number of samples], ["step"] or ["close", session].
        audio: What was pushed, in the order of the calls.
        latencies_s: Of each step's decisions, then of its replies' first tokens.
    """

    calls: list[list[Any]] = field(default_factory=list)
    audio: list[Audio] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    def opened(self, session: int, sampling: Sampling) -> None:
        """Note that a session was opened."""
        self.calls.append(["open", session, asdict(sampling)])

    def pushed(self, session: int, samples: Audio) -> None:
        """Note what a session pushed."""
        self.calls.append(["push", session, len(samples)])
        self.audio.append(np.array(samples, np.float32))

    def stepped(self) -> None:
        """Note that a step began: what was pushed before it is what it took."""
        self.calls.append(["step"])

    def closed(self, session: int) -> None:
        """Note that a session was closed."""
        self.calls.append(["close", session])

    def happened(self, events: Sequence[StepEvent]) -> None:
        """Note how long a step's decisions and first tokens took."""
        self.latencies_s += [e.decision_latency_s for e in events if e.decision_latency_s is not None]
        self.latencies_s += [e.first_token_latency_s for e in events if e.first_token_latency_s is not None]

    def save(self, path: Path) -> None:
        """Write one safetensors file; it appears under its name when it is whole."""
        aside = path.with_name(path.name + ".part")
        audio = torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *self.audio]))
        latencies = torch.tensor(self.latencies_s, dtype=torch.float64)
        metadata = {"format": _FORMAT, "calls": json.dumps(self.calls)}
        try:
            save_file({"audio": audio, "latencies_s": latencies}, aside, metadata)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read what `save` wrote.

        Raises:
            PolicyError: when it cannot be read, or is no recording.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise PolicyError(f"{path}: no recording of an engine (format {metadata.get('format')!r})")
                calls = json.loads(metadata["calls"])
                samples, latencies = file.get_tensor("audio").numpy(), file.get_tensor("latencies_s").tolist()
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise PolicyError(f"{path}: the recording cannot be read: {error}".splitlines()[0]) from error
        sizes = [call[2] for call in calls if call[0] == "push"]
        if sum(sizes) != len(samples):
            raise PolicyError(f"{path}: the recording holds {len(samples)} samples, its calls name {sum(sizes)}")
        return cls(calls, np.split(samples, np.cumsum(sizes)[:-1]), latencies)
