"""The batched environment: many streams in one numpy batch, without processes."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.episode import Episode
from envs.errors import ScenarioError
from envs.rewards import Reward
from envs.stream_env import (
    SEED_RANGE,
    Scenarios,
    action_space,
    default_scenarios,
    observation_space,
    observe,
    parse_action,
)
from envs.tokenizer import ByteTokenizer, TextTokenizer
from envs.trace import Trace

Batch = dict[str, NDArray[Any]]


class StreamVectorEnv(VectorEnv[Batch, Batch, NDArray[Any]]):
    """`num_envs` streams at once; takes the arguments of `StreamEnv`.

    With `autoreset` a finished slot begins its next episode at the next step (Gymnasium's NEXT_STEP); without, it
    gives silence and zero reward until it is reset (DISABLED).
    """

    def __init__(
        self,
        num_envs: int,
        scenarios: Scenarios | None = None,
        tokenizer: TextTokenizer | None = None,
        tokens_per_chunk: int = 16,
        reward: Reward | None = None,
        thinking_s: float = 0.0,
        autoreset: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise ScenarioError("the batched environment does not render; use the single one")
        self.num_envs = num_envs
        self.scenarios = scenarios or default_scenarios()
        self.tokenizer = tokenizer or ByteTokenizer()
        self.reward = reward or Reward.default()
        self.thinking_s = thinking_s
        self.autoreset = autoreset
        mode = AutoresetMode.NEXT_STEP if autoreset else AutoresetMode.DISABLED
        self.metadata = {"autoreset_mode": mode}
        self.single_action_space = action_space(self.tokenizer, tokens_per_chunk)
        self.single_observation_space = observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.episodes: list[Episode] = []

    @property
    def traces(self) -> list[Trace]:
        """The traces of the episodes being played, by slot."""
        return [episode.trace for episode in self.episodes]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, dict[str, Any]]:
        """Begin scenarios in all slots, or in those of `options["reset_mask"]`.

        Slot i of `seed=n` plays what a single environment reset with `seed=n + i` plays;
        `options["scenario_seeds"]` names the scenarios instead.
        """
        options = options or {}
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if not self.episodes and not mask.all():
            raise ScenarioError("the first reset must reset all slots")
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        chosen = options.get("scenario_seeds")
        self.episodes = self.episodes or [None] * self.num_envs  # type: ignore[list-item]
        for slot in np.flatnonzero(mask):
            if seeds is not None and seeds[slot] is not None:
                self.generators[slot] = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds[slot])))
            self._begin(int(slot), None if chosen is None else int(chosen[slot]))
        infos = {
            "scenario_seed": np.array([e.scenario.seed for e in self.episodes]),
            "instruction": np.array([e.scenario.instruction for e in self.episodes], dtype=object),
        }
        return self._observe(), infos

    def step(self, actions: Batch) -> tuple[Batch, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act in every slot and hear the next chunks."""
        kinds, tokens = parse_action(actions, self.action_space["tokens"].shape)  # type: ignore[index]
        rewards = np.zeros(self.num_envs)
        parts = {name: np.zeros(self.num_envs) for name, _, _ in self.reward.components}
        invalid = np.zeros(self.num_envs, bool)
        for slot, episode in enumerate(self.episodes):
            if episode.over:
                if self.autoreset:
                    self._begin(slot, None)
                continue
            record = episode.step(int(kinds[slot]), tokens[slot])
            rewards[slot], invalid[slot] = record.reward, record.invalid
            for name, value in record.rewards.items():
                parts[name][slot] = value
        terminated = np.array([episode.over for episode in self.episodes])
        return self._observe(), rewards, terminated, np.zeros(self.num_envs, bool), {"reward": parts, "invalid": invalid}

    def _begin(self, slot: int, scenario_seed: int | None) -> None:
        drawn = int(self.generators[slot].integers(SEED_RANGE)) if scenario_seed is None else scenario_seed
        self.episodes[slot] = Episode(self.scenarios(drawn), self.tokenizer, self.reward, self.thinking_s)

    def _observe(self) -> Batch:
        observations = [observe(episode) for episode in self.episodes]
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
