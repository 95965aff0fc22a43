"""The batched environment: many streams in one numpy batch, without processes."""

from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.episode import WAIT, Act, Episode
from envs.errors import ScenarioError
from envs.rewards import Reward
from envs.stream_env import (
    SEED_RANGE,
    Scenarios,
    action_space,
    check_rates,
    default_scenarios,
    observation_space,
    parse_action,
)
from envs.thinking import ThinkingTime
from envs.tokenizer import ByteTokenizer, TextTokenizer
from envs.trace import Trace
from envs.workers import RenderedAhead

Batch = dict[str, NDArray[Any]]


class StreamingAudioVectorEnv(VectorEnv[Batch, Batch, NDArray[Any]]):
    """`num_envs` streams at once; takes the arguments of `StreamingAudioEnv`.

    `workers` processes render the scenarios that come next while the present ones are played; with 0 each is rendered
    when it begins. The bytes are the same. They are spawned, so a script needs `if __name__ == "__main__":`; `close`
    ends them.

    With `autoreset` a finished slot begins its next episode at the next step (Gymnasium's NEXT_STEP);
    without, it gives silence and zero reward, still terminated, until it is reset (DISABLED): so evaluations
    run.
    """

    def __init__(
        self,
        num_envs: int,
        scenarios: Scenarios | None = None,
        *,
        ability: str = "Proactive",
        sub_task: str | None = None,
        tokenizer: TextTokenizer | None = None,
        tokens_per_chunk: int = 16,
        reward: Reward | None = None,
        thinking_s: ThinkingTime = 0.0,
        autoreset: bool = True,
        workers: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise ScenarioError("the batched environment does not render; use the single one")
        if num_envs < 1:
            raise ScenarioError(f"num_envs is {num_envs}, expected at least 1")
        if workers < 0:
            raise ScenarioError(f"workers is {workers}, expected 0 (none) or more")
        if workers and not autoreset:
            raise ScenarioError("workers render what comes after an episode, and without autoreset nothing does")
        self.num_envs = num_envs
        check_rates(tokens_per_chunk, thinking_s)
        self.scenarios = default_scenarios(ability, sub_task) if scenarios is None else scenarios
        self._ahead = RenderedAhead(self.scenarios, workers) if workers else None
        self._next_seeds: list[int | None] = [None] * num_envs  # drawn and announced, not yet begun
        self.tokenizer: TextTokenizer = ByteTokenizer() if tokenizer is None else tokenizer
        self.reward = Reward.default() if reward is None else reward
        self.tokens_per_chunk = tokens_per_chunk
        self.thinking_s = thinking_s
        self.autoreset = autoreset
        mode = AutoresetMode.NEXT_STEP if autoreset else AutoresetMode.DISABLED
        self.metadata = {"autoreset_mode": mode}
        self.single_action_space = action_space(self.tokenizer, tokens_per_chunk)
        self.single_observation_space = observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.generators = [np_random()[0] for _ in range(num_envs)]
        self._episodes: list[Episode] = []
        self._waited = np.zeros(num_envs, np.int64)  # steps in which nothing happened, not yet told to the episodes
        self._heard = np.zeros(num_envs, np.int64)  # chunks played of each scenario
        self._num_chunks = np.zeros(num_envs, np.int64)
        self._quiet_until = np.zeros(num_envs, np.int64)
        self._speaking = np.zeros(num_envs, np.int64)
        self._audio = [np.zeros(0, np.float32)] * num_envs
        self._infos = {
            "scenario_seed": np.zeros(num_envs, np.int64),
            "instruction": np.full(num_envs, "", dtype=object),
        }

    @property
    def episodes(self) -> list[Episode]:
        """The episodes being played, by slot."""
        for slot in np.flatnonzero(self._waited).tolist():
            self._catch_up(slot)
        return self._episodes

    @property
    def traces(self) -> list[Trace]:
        """The traces of the episodes being played, by slot."""
        return [episode.trace for episode in self.episodes]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, dict[str, Any]]:
        """Begin scenarios in all slots, or in those of `options["reset_mask"]` (bool [B]).

        Slot i of `seed=n` plays what a single environment reset with `seed=n + i` plays; a list gives each
        slot its own seed. `options["scenario_seeds"]` (B integers) names the scenarios instead.

        Raises:
            ScenarioError: when a list has not one entry for each slot, or the first reset leaves slots out.
        """
        options = options or {}
        seeds: Any = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = self._per_slot("seed", [None] * self.num_envs if seeds is None else seeds)
        chosen = self._per_slot("scenario_seeds", options.get("scenario_seeds", [None] * self.num_envs))
        wanted = self._per_slot("reset_mask", options.get("reset_mask", [True] * self.num_envs))
        mask = np.array(wanted, bool)
        if not self._episodes and not mask.all():
            raise ScenarioError("the first reset must reset all slots; leave out options['reset_mask']")
        fresh: dict[int, Episode] = {}
        for slot in np.flatnonzero(mask).tolist():
            if seeds[slot] is not None:
                self.generators[slot] = np_random(int(seeds[slot]))[0]
                self._forget_next(slot)
            fresh[slot] = self._begin(slot, chosen[slot])
        before = self.episodes
        self._episodes = [fresh[i] if i in fresh else before[i] for i in range(self.num_envs)]
        for slot in fresh:
            self._look_ahead(slot)
        return self._observe(), self._scenario_infos()

    def step(self, actions: Batch) -> tuple[Batch, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act in every slot and hear the next chunks.

        Args:
            actions: `{"kind": int64 [B], "tokens": int64 [B, K]}`.

        Returns:
            Observations [B, ...], rewards float64 [B], terminated and truncated bool [B] (nothing is
            truncated here), and infos: `reward` holds every component [B], `invalid` is bool [B], and
            `scenario_seed` and `instruction` tell which scenarios are playing.

        Raises:
            ScenarioError: before the first reset, or when the actions do not fit the action space.
        """
        if not self._episodes:
            raise ScenarioError("the environment has no episodes yet; call reset() first")
        kinds, tokens = parse_action(actions, (self.num_envs, self.tokens_per_chunk))
        rewards = np.zeros(self.num_envs)
        parts = {name: np.zeros(self.num_envs) for name in self.reward.names}
        invalid = np.zeros(self.num_envs, bool)
        quiet = (kinds == WAIT) & (self._heard < self._quiet_until)
        self._waited += quiet
        self._heard += quiet
        acts: dict[int, Act] = {}
        for slot in np.flatnonzero(~quiet).tolist():
            self._catch_up(slot)
            if not self._episodes[slot].over:
                acts[slot] = self._episodes[slot].act(int(kinds[slot]), tokens[slot].tolist())
            elif self.autoreset:
                self._episodes[slot] = self._begin(slot, None)
                self._look_ahead(slot)
        if acts:
            self.reward.prepare([act.moment for act in acts.values()])
        for slot, act in acts.items():
            record = self._episodes[slot].earn(act)
            rewards[slot], invalid[slot] = record.reward, record.invalid
            for name, value in record.rewards.items():
                parts[name][slot] = value
            self._look_ahead(slot)
        return (
            self._observe(),
            rewards,
            self._heard >= self._num_chunks,
            np.zeros(self.num_envs, bool),
            {"reward": parts, "invalid": invalid, **self._scenario_infos()},
        )

    def _catch_up(self, slot: int) -> None:
        """Tell an episode of the steps in which nothing happened."""
        if self._waited[slot]:
            self._episodes[slot].wait_quietly(int(self._waited[slot]))
            self._waited[slot] = 0

    def _look_ahead(self, slot: int) -> None:
        """Note where an episode stands, and until when a WAIT cannot do anything in it."""
        episode = self._episodes[slot]
        self._heard[slot], self._num_chunks[slot] = episode.step_index, episode.scenario.num_chunks
        self._speaking[slot] = episode.speaking
        self._quiet_until[slot] = episode.quiet_until if self.reward.eventful and not episode.over else 0
        self._audio[slot] = episode.scenario.audio
        self._infos["scenario_seed"][slot] = episode.scenario.seed
        self._infos["instruction"][slot] = episode.scenario.instruction

    def _scenario_infos(self) -> dict[str, Any]:
        return {name: values.copy() for name, values in self._infos.items()}

    def _begin(self, slot: int, scenario_seed: int | None) -> Episode:
        if scenario_seed is None:
            scenario_seed, self._next_seeds[slot] = self._next_seeds[slot], None
        if scenario_seed is None:
            scenario_seed = int(self.generators[slot].integers(SEED_RANGE))
        if self._ahead is None:
            scenario = self.scenarios(int(scenario_seed))
        else:
            scenario = self._ahead(int(scenario_seed))
            self._announce_next(slot, self._ahead)
        return Episode(scenario, self.tokenizer, self.reward, self.thinking_s)

    def _announce_next(self, slot: int, ahead: RenderedAhead) -> None:
        """Draw the seed of a slot's next episode now, so that its scenario can be rendered in the meantime."""
        if self.autoreset and self._next_seeds[slot] is None:
            self._next_seeds[slot] = seed = int(self.generators[slot].integers(SEED_RANGE))
            ahead.announce(seed)

    def _forget_next(self, slot: int) -> None:
        """Take back what was announced for a slot whose generator begins anew."""
        seed, self._next_seeds[slot] = self._next_seeds[slot], None
        if self._ahead is not None and seed is not None:
            self._ahead.withdraw(seed)

    def close_extras(self, **kwargs: Any) -> None:
        """End the processes that render ahead."""
        if self._ahead is not None:
            self._ahead.close()

    def _per_slot(self, name: str, values: Any) -> list[Any]:
        if len(values) != self.num_envs:
            raise ScenarioError(f"{name} has {len(values)} entries, expected one for each of {self.num_envs} slots")
        return list(values)

    def _observe(self) -> Batch:
        audio = np.empty((self.num_envs, CHUNK_SAMPLES), np.float32)
        for chunk, source, first in zip(audio, self._audio, (self._heard * CHUNK_SAMPLES).tolist(), strict=True):
            chunk[:] = source[first : first + CHUNK_SAMPLES] if first < len(source) else 0.0  # silence after the last
        elapsed = np.minimum(self._heard + 1, self._num_chunks) * CHUNK_S
        return {
            "audio": audio,
            "speaking": self._speaking.copy(),
            "elapsed": elapsed.astype(np.float32).reshape(-1, 1),
        }
