"""The batched stream environment as Stable-Baselines3 wants it: what all streams hear is encoded in one call.

Gymnasium's vector environments begin the next episode one step after the last has ended, or when they are told to;
Stable-Baselines3's do so in the same step. Here the environment is told to.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from envs.episode import WAIT
from envs.errors import PolicyError
from envs.reference_reply import CANNED_REPLY, ReferenceReply
from envs.stream_env import Scenarios
from envs.vector_env import StreamingAudioVectorEnv
from policies.gate import CHUNKS, DECISION, ChunkEncoder, GateMemory, Seen, gate_space

Schedule = Callable[[float], Scenarios]  # from the share of the training done to the scenarios of that moment


@dataclass
class Begun:
    """One episode, as far as it was played: enough to play it again."""

    seed: int
    progress: float  # of the training, when it began
    decisions: list[int] = field(default_factory=list)


class GateVecEnv(VecEnv):
    """Streams for a gate, many at once; each slot does what `GateObservation` over `DiscreteDecision` does.

    Episode number n, in the order in which they begin, plays scenario `first_seed + n` of `schedule(progress)`. When
    one ends, the next begins in the same step. A stream is played out and never cut, so nothing follows from its
    `terminal_observation`, which repeats what was seen last. For an episode that has ended, `info["episode"]` holds
    what Stable-Baselines3 logs (r: sum of rewards, l: chunks) and `info["reward"]` the sum of every component.

    Args:
        env: Made with `autoreset=False`; its `scenarios` are set from here on.
        encoder: Encodes the newest chunk of all streams, once a step.
        chunks: How many of the last ones are observed.
        first_seed: Of the first scenario.
        schedule: Gives the scenarios of a moment, such as `Curriculum.at`; default: the environment's, always.
        canned: What is said where no cue is open.

    Attributes:
        progress: The share of the training that is done, in [0, 1]; episodes that begin from now on are of it.

    Raises:
        PolicyError: when the environment resets by itself.
    """

    def __init__(
        self,
        env: StreamingAudioVectorEnv,
        encoder: ChunkEncoder,
        chunks: int = CHUNKS,
        first_seed: int = 0,
        schedule: Schedule | None = None,
        canned: str = CANNED_REPLY,
    ) -> None:
        if env.autoreset:
            raise PolicyError("a gate's environments reset in the step that ends an episode; make env(autoreset=False)")
        self.env = env
        super().__init__(env.num_envs, gate_space(encoder, chunks), DECISION)
        self.memory = GateMemory(encoder, chunks, env.num_envs)
        scenarios = env.scenarios
        self.schedule: Schedule = schedule if schedule is not None else lambda _: scenarios
        self.progress = 0.0
        self._next_seed, self._canned = first_seed, canned
        self._begun: list[Begun] = []
        self._replies: list[ReferenceReply] = []
        self._actions: NDArray[Any] = np.zeros(env.num_envs, np.int64)
        self._seen: Seen = {}

    def reset(self) -> Seen:
        """Begin an episode in every slot; return a batch of `gate_space`."""
        observations = self._begin(np.ones(self.num_envs, bool))
        return self._see(observations, np.zeros(self.num_envs, bool))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take what was decided for every slot: integers [B], 0 waits, 1 responds."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Act, hear the next chunks, and begin new episodes where the last have ended."""
        (observations, rewards, over, _, _), spoke = self._act(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for slot in np.flatnonzero(over).tolist():
            trace = self.env.traces[slot]
            infos[slot] = {
                "episode": {"r": trace.total_reward, "l": len(trace.steps)},
                "reward": {name: sum(s.rewards[name] for s in trace.steps) for name in trace.steps[0].rewards},
                "terminal_observation": {name: batch[slot] for name, batch in self._seen.items()},
            }
        if over.any():
            observations = self._begin(over)
            spoke &= ~over
        return self._see(observations, spoke), rewards.astype(np.float32), over, infos

    def _act(self, decisions: NDArray[Any]) -> tuple[Any, NDArray[np.bool_]]:
        """Step the environment; return what it did, and in which slots a reply sounds: bool [B]."""
        kinds = np.full(self.num_envs, WAIT, np.int64)
        tokens = np.full((self.num_envs, self.env.tokens_per_chunk), self.env.tokenizer.vocab_size, np.int64)
        episodes = self.env.episodes
        for slot, decision in enumerate(decisions.tolist()):
            self._begun[slot].decisions.append(decision)
            kinds[slot], tokens[slot] = self._replies[slot].action(episodes[slot], decision == 1)
        return self.env.step({"kind": kinds, "tokens": tokens}), kinds != WAIT

    def _begin(self, mask: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Begin the next episodes where `mask` [B] is True; return what is observed in all slots."""
        begun = {}
        for slot in np.flatnonzero(mask).tolist():
            begun[slot] = Begun(self._next_seed, self.progress)
            self._next_seed += 1
        self._begun = [begun[i] if i in begun else self._begun[i] for i in range(self.num_envs)]
        self.memory.reset(mask)
        return self._play_anew(mask)

    def _play_anew(self, mask: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Begin the episodes of `_begun` where `mask` [B] is True, each at its own difficulty."""
        fresh = [ReferenceReply(self.env.tokens_per_chunk, self._canned) for _ in range(self.num_envs)]
        self._replies = [fresh[i] if mask[i] else self._replies[i] for i in range(self.num_envs)]
        of_seed = {begun.seed: self.schedule(begun.progress) for begun in self._begun}
        self.env.scenarios = lambda seed: of_seed[seed](seed)
        seeds = [begun.seed for begun in self._begun]
        observations, _ = self.env.reset(options={"reset_mask": mask, "scenario_seeds": seeds})
        return observations

    def _see(self, observations: dict[str, NDArray[Any]], spoke: NDArray[np.bool_]) -> Seen:
        self._seen = self.memory.hear(observations["audio"], spoke, observations["speaking"])
        return self._seen

    def state(self) -> tuple[Seen, dict[str, Any]]:
        """Return where the streams stand: arrays [B, ...], and plain JSON types."""
        arrays = {**self.memory.state(), "speaking": self._seen["speaking"]}
        return arrays, {"next_seed": self._next_seed, "begun": [asdict(begun) for begun in self._begun]}

    def restore(self, arrays: Seen, about: dict[str, Any]) -> Seen:
        """Go on from a `state`: play the open episodes up to there; return what is seen.

        Nothing is encoded again, since an embedding's last bits may depend on what else was in its batch.
        """
        self._next_seed = int(about["next_seed"])
        played = [Begun(**begun) for begun in about["begun"]]
        self._begun = [Begun(begun.seed, begun.progress) for begun in played]
        longest = max(len(begun.decisions) for begun in played)
        self._play_anew(np.ones(self.num_envs, bool))
        for step in range(longest):  # shorter episodes begin later, so that all end together
            late = np.array([len(begun.decisions) == longest - step for begun in played])
            if late.any() and step:
                self._play_anew(late)
            places = [step - longest + len(begun.decisions) for begun in played]
            decisions = [b.decisions[at] if at >= 0 else 0 for b, at in zip(played, places, strict=True)]
            self._act(np.array(decisions))
        if any(not begun.decisions for begun in played):
            self._play_anew(np.array([not begun.decisions for begun in played]))
        self._begun = played
        self.memory.restore(arrays)
        batch = len(arrays["embeddings"])
        flat = arrays["embeddings"].reshape(batch, -1)
        self._seen = {"embeddings": flat, "spoke": arrays["spoke"], "speaking": arrays["speaking"]}
        return self._seen

    def close(self) -> None:
        """End the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batched environment, once for each slot."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the slots are one environment."""
        raise PolicyError(f"{attr_name} cannot be set for single slots of a batched environment; set it on `.env`")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: the slots are one environment."""
        raise PolicyError(f"{method_name} cannot be called on single slots of a batched environment; call it on `.env`")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each slot: what wrappers do to single environments is done here."""
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """Return None for each slot: the batched environment does not render."""
        return [None] * self.num_envs
