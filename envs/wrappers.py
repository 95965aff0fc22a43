"""Gymnasium wrappers of the stream environment; each changes one thing.

Frame stacking and time limits are Gymnasium's own: `FrameStackObservation` over `LogMelObservation`,
`TimeLimit`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.errors import ScenarioError
from envs.log_mel import CHUNK_FRAMES, CONTEXT_SAMPLES, N_MELS, LogMel, log_mel
from envs.reference_reply import CANNED_REPLY, ReferenceReply
from envs.scenario import Audio
from envs.stream_env import StreamingAudioEnv
from envs.trace_files import write_trace

Observation = dict[str, Any]
Action = dict[str, Any]


def stream_of(env: gym.Env[Any, Any]) -> StreamingAudioEnv:
    """Return the stream environment under any wrappers.

    Raises:
        ScenarioError: when there is another environment under them.
    """
    stream = env.unwrapped
    if not isinstance(stream, StreamingAudioEnv):
        raise ScenarioError(f"{env} is no stream environment; make one by gym.make('envs:SoundFlow/...')")
    return stream


class DiscreteDecision(gym.ActionWrapper[Any, Any, Action]):
    """Leaves the agent the decision alone: 0 waits, 1 responds. For Stable-Baselines3.

    On 1 the wrapper says the first reference reply of the cue that is open at that moment, or a canned reply
    where none is, at K tokens a chunk; what the agent decides until the reply has ended is ignored.

    Args:
        env: A stream environment.
        canned: What to say when no cue is open.

    >>> env = DiscreteDecision(gym.make("envs:SoundFlow/Proactive-v0"))
    >>> env.action_space
    Discrete(2)
    """

    def __init__(self, env: gym.Env[Any, Action], canned: str = CANNED_REPLY) -> None:
        super().__init__(env)
        self.action_space: gym.Space[Any] = spaces.Discrete(2)
        self._stream = stream_of(env)
        self._reply = ReferenceReply(self._stream.tokens_per_chunk, canned)

    def action(self, action: int) -> Action:
        """Return the stream environment's action."""
        kind, tokens = self._reply.action(self._stream.episode, bool(action == 1))
        return {"kind": np.int64(kind), "tokens": tokens}


class LogMelObservation(gym.ObservationWrapper[LogMel, Any, Observation]):
    """Replaces the observation by the log-mel frames of the chunk: float32 [40, 64] in [-1, 1].

    Frames reach 15 ms into the chunk before; the frames of an episode are those of its whole waveform.

    >>> env = LogMelObservation(gym.make("envs:SoundFlow/Proactive-v0"))
    >>> observation, info = env.reset(seed=0)
    >>> observation.shape
    (40, 64)
    """

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(-1.0, 1.0, (CHUNK_FRAMES, N_MELS), np.float32)
        self._context: Audio = np.zeros(CONTEXT_SAMPLES, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[LogMel, dict[str, Any]]:
        """Begin a scenario; what was heard before is forgotten."""
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Observation) -> LogMel:
        """Return the frames of the chunk."""
        audio = observation["audio"]
        frames = log_mel(audio, self._context)
        self._context = audio[-CONTEXT_SAMPLES:]
        return frames


class RecordTraces(gym.Wrapper[Any, Any, Any, Any]):
    """Writes the trace of every finished episode to a folder, as `episode-000000.jsonl` and so on.

    Numbering goes on after the episodes that the folder holds already; `envs.trace_files.read_traces` reads
    them.

    Args:
        env: A stream environment.
        folder: Made when the first episode ends.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     env = RecordTraces(DiscreteDecision(gym.make("envs:SoundFlow/Proactive-v0")), folder)
    ...     _, _ = env.reset(seed=0)
    ...     while not env.step(0)[2]:
    ...         pass
    ...     [path.name for path in Path(folder).iterdir()]
    ['episode-000000.jsonl']
    """

    def __init__(self, env: gym.Env[Any, Any], folder: str | Path) -> None:
        super().__init__(env)
        self._stream = stream_of(env)
        self.folder = Path(folder)
        numbers = [path.stem.rpartition("-")[2] for path in self.folder.glob("episode-*.jsonl")]
        written = [int(number) for number in numbers if number.isdecimal()]
        self._next = max(written, default=-1) + 1

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and write the trace when the episode has ended."""
        result = super().step(action)
        if result[2] or result[3]:
            write_trace(self.folder / f"episode-{self._next:06d}.jsonl", self._stream.trace)
            self._next += 1
        return result


class InjectLatency(gym.Wrapper[Any, Any, Any, Any]):
    """Adds thinking time to every action, drawn from a distribution; draws follow from the scenario's seed.

    Args:
        env: A stream environment; its own `thinking_s` is added.
        draw: Takes a generator and returns seconds, at least 0.

    >>> env = InjectLatency(gym.make("envs:SoundFlow/Proactive-v0"), lambda rng: rng.gamma(4.0, 0.05))
    >>> _, _ = env.reset(seed=0)
    """

    def __init__(self, env: gym.Env[Any, Any], draw: Callable[[np.random.Generator], float]) -> None:
        super().__init__(env)
        self._stream = stream_of(env)
        self.draw = draw
        self._rng = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a scenario, and the draws that belong to it."""
        result = super().reset(seed=seed, options=options)
        self._rng = np.random.default_rng([self._stream.trace.seed, 0x1A8])
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with a thinking time of its own.

        Raises:
            ScenarioError: when the distribution gives a negative or infinite time.
        """
        seconds = float(self.draw(self._rng))
        if not 0.0 <= seconds < math.inf:
            raise ScenarioError(f"the latency drawn is {seconds}, expected seconds from 0 on")
        episode = self._stream.episode
        if not episode.over:
            episode.thinking_s[episode.step_index] += seconds
        return super().step(action)
