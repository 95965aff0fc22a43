"""The Gymnasium environment: one step is one chunk; actions are wait, respond, and tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.episode import TOKENS, WAIT, Episode
from envs.errors import ScenarioError
from envs.rewards import Reward
from envs.scenario import Scenario
from envs.sources import ClipSource
from envs.thinking import ThinkingTime, check_thinking
from envs.tokenizer import ByteTokenizer, TextTokenizer
from envs.trace import StepRecord, Trace

if TYPE_CHECKING:
    from envs.speech.utterance import SpeechSource

Scenarios = Callable[[int], Scenario]
MAX_ELAPSED_S = 24 * 3600.0
SEED_RANGE = 2**31 - 1


def default_scenarios(
    ability: str = "Proactive",
    sub_task: str | None = None,
    sounds: ClipSource | None = None,
    speech: "SpeechSource | None" = None,
) -> Scenarios:
    """Return an ability's scenarios, of given sounds and speech or of built-in ones.

    Raises:
        ScenarioError: for an unknown ability or sub-task.
    """
    if sounds is None:
        from envs.foley import Foley  # noqa: PLC0415 - `import envs` stays light

        sounds = Foley()
    if ability == "Proactive" and sub_task is None:
        from envs.proactive import ProactiveScenarios  # noqa: PLC0415

        return ProactiveScenarios(sounds)
    from envs.abilities import AbilityScenarios, World  # noqa: PLC0415
    from envs.speech.espeak import Espeak  # noqa: PLC0415

    return AbilityScenarios(ability, World(sounds, speech or Espeak()), sub_task)


def action_space(tokenizer: TextTokenizer, tokens_per_chunk: int) -> spaces.Dict:
    """Return `Dict(kind=Discrete(3), tokens=MultiDiscrete([vocab + 1] * K))`; id `vocab` is padding."""
    return spaces.Dict(
        {
            "kind": spaces.Discrete(3),
            "tokens": spaces.MultiDiscrete([tokenizer.vocab_size + 1] * tokens_per_chunk),
        }
    )


def observation_space() -> spaces.Dict:
    """Return the space of one chunk, whether the agent is speaking, and the seconds elapsed."""
    return spaces.Dict(
        {
            "audio": spaces.Box(-1.0, 1.0, (CHUNK_SAMPLES,), np.float32),
            "speaking": spaces.Discrete(2),
            "elapsed": spaces.Box(0.0, MAX_ELAPSED_S, (1,), np.float32),
        }
    )


def observe(episode: Episode) -> dict[str, Any]:
    """Return what the agent holds before it acts; after the last chunk, silence."""
    chunk = np.zeros(CHUNK_SAMPLES, np.float32) if episode.over else episode.scenario.chunk(episode.step_index)
    heard = min(episode.step_index + 1, episode.scenario.num_chunks)
    return {
        "audio": chunk.copy(),
        "speaking": np.int64(episode.speaking),
        "elapsed": np.array([heard * CHUNK_S], np.float32),
    }


def check_rates(tokens_per_chunk: int, thinking_s: ThinkingTime) -> None:
    """Raise ScenarioError when a token rate or a thinking time is impossible."""
    if tokens_per_chunk < 1:
        raise ScenarioError(f"tokens_per_chunk is {tokens_per_chunk}, expected at least 1")
    check_thinking(thinking_s)


def step_info(record: StepRecord) -> dict[str, Any]:
    """Return what `info` holds after a step."""
    return {"reward": dict(record.rewards), "invalid": record.invalid}


class StreamingAudioEnv(gym.Env[dict[str, Any], dict[str, Any]]):
    """A stream of 400 ms chunks; the agent waits, responds, or goes on with its reply after each.

    Args:
        scenarios: Makes the scenario of a seed; default: those of `ability` from built-in sounds.
        ability: One of the seven, or "Mixed"; each registered environment names its own.
        sub_task: Of the ability; default: all of them.
        tokenizer: Turns the ids of replies into text; default: UTF-8 bytes.
        tokens_per_chunk: K, how many tokens fit into one chunk.
        reward: The reward; default: every component with weight 1.
        thinking_s: Seconds between the end of a chunk and the effect of the action taken on it; or measured ones, of
            which each action draws one.
        render_mode: "human", "rgb_array" or "ansi".

    >>> env = gym.make("envs:SoundFlow/Proactive-v0")
    >>> observation, info = env.reset(seed=7)
    >>> observation["audio"].shape  # 0.4 s at 16 kHz
    (6400,)
    """

    metadata = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 2.5}  # noqa: RUF012 - Gymnasium's API

    def __init__(
        self,
        scenarios: Scenarios | None = None,
        tokenizer: TextTokenizer | None = None,
        *,
        ability: str = "Proactive",
        sub_task: str | None = None,
        tokens_per_chunk: int = 16,
        reward: Reward | None = None,
        thinking_s: ThinkingTime = 0.0,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            known = ", ".join(self.metadata["render_modes"])
            raise ScenarioError(f"render_mode is {render_mode!r}, expected one of {known}")
        check_rates(tokens_per_chunk, thinking_s)
        self.scenarios = default_scenarios(ability, sub_task) if scenarios is None else scenarios
        self.tokenizer: TextTokenizer = ByteTokenizer() if tokenizer is None else tokenizer
        self.reward = Reward.default() if reward is None else reward
        self.tokens_per_chunk = tokens_per_chunk
        self.thinking_s = thinking_s
        self.render_mode = render_mode
        self.action_space = action_space(self.tokenizer, tokens_per_chunk)
        self.observation_space = observation_space()
        self._episode: Episode | None = None

    @property
    def episode(self) -> Episode:
        """The episode being played.

        Raises:
            ScenarioError: before the first reset.
        """
        if self._episode is None:
            raise ScenarioError("the environment has no episode yet; call reset() first")
        return self._episode

    @property
    def trace(self) -> Trace:
        """The trace of the episode so far."""
        return self.episode.trace

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the scenario of `options["scenario_seed"]`, or one drawn from the environment's generator."""
        super().reset(seed=seed)
        chosen = (options or {}).get("scenario_seed")
        scenario = self.scenarios(int(self.np_random.integers(SEED_RANGE)) if chosen is None else int(chosen))
        self._episode = Episode(scenario, self.tokenizer, self.reward, self.thinking_s)
        return observe(self._episode), {"instruction": scenario.instruction, "scenario_seed": scenario.seed}

    def step(self, action: dict[str, Any]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act after one chunk and hear the next.

        Raises:
            ScenarioError: when the episode is over, or the action has another shape than the action space.
        """
        if self.episode.over:
            raise ScenarioError("the scenario was played out; call reset() before the next step")
        kind, tokens = parse_action(action, (self.tokens_per_chunk,))
        record = self.episode.step(int(kind), tokens.tolist())
        if self.render_mode == "human":
            print(self._ansi())
        return observe(self.episode), record.reward, self.episode.over, False, step_info(record)

    def render(self) -> NDArray[np.uint8] | str | None:
        """Return the episode so far as a picture (uint8 [H, W, 3]) or as text."""
        if self.render_mode == "rgb_array":
            from envs.rendering import render_trace  # noqa: PLC0415 - matplotlib is heavy

            return render_trace(self.episode.scenario, self.trace)
        return self._ansi() if self.render_mode == "ansi" else None

    def _ansi(self) -> str:
        from envs.rendering import render_ansi  # noqa: PLC0415 - matplotlib is heavy

        return render_ansi(self.episode.scenario, self.trace)


def parse_action(action: Any, tokens_shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return kind and tokens of an action, single or batched.

    Args:
        action: A dict of integers: `kind` of shape [...], `tokens` of shape [..., K].
        tokens_shape: The shape expected of `tokens`: (K,) or (B, K).

    Raises:
        ScenarioError: when it is no such dict.
    """
    if not isinstance(action, dict) or set(action) != {"kind", "tokens"}:
        raise ScenarioError(f"an action is a dict of 'kind' and 'tokens', got {action!r}")
    arrays = {key: np.asarray(action[key]) for key in ("kind", "tokens")}
    for key, shape in (("kind", tokens_shape[:-1]), ("tokens", tokens_shape)):
        array = arrays[key]
        if array.shape != shape or array.dtype.kind not in "iu":
            found = f"{array.dtype} of shape {array.shape}"
            raise ScenarioError(f"action[{key!r}] is {found}, expected integers of shape {shape}")
    if ((arrays["kind"] < WAIT) | (arrays["kind"] > TOKENS)).any():
        kinds = arrays["kind"].tolist()
        raise ScenarioError(f"action['kind'] is {kinds}, expected 0 (wait), 1 (respond) or 2 (tokens)")
    return arrays["kind"], arrays["tokens"]
