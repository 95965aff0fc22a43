"""Where rollouts are played: in this process, or by Ray actors on this machine and others; one interface for both.

An iteration's seeds are cut into tasks of a few episodes, the same ones whoever plays them, and every episode has its
own generator. So the rollouts do not depend on how many workers there are, nor on which of them played what, or twice.
"""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from envs.errors import PolicyError, SoundFlowError, first_line
from envs.rewards import Reward
from envs.rewards.bill import Bill, sum_bills
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from trainers.config import ReinforcementConfig
from trainers.rollouts import Rollout, collect
from trainers.scenes import ScenariosAt

Weights = Mapping[str, Tensor]
RESTARTS = 8  # of one actor, and of one task: a worker that dies more often dies of what it is given


@dataclass(frozen=True)
class Task:
    """A few episodes that are played in one batch."""

    first: int  # its first episode's number in the iteration
    seeds: tuple[int, ...]
    sampling_seed: int
    progress: float = 0.0  # of the training, for a curriculum


@dataclass(frozen=True)
class Played:
    """One episode that came back."""

    seed: int  # of its scenario
    version: int  # of the weights that played it
    rollout: Rollout


class Player:
    """Plays tasks with weights that come from elsewhere; lives in the process that plays.

    Args:
        model: Plays; it is overwritten. It may be the policy that is trained: its own weights change nothing.
        tokenizer: The policy's.
        scenarios: Give, of a training's progress, the scenario of a seed.
        reward: What is earned.
        episode_chunks: After how many chunks an episode is cut; None: none is.
    """

    def __init__(
        self,
        model: LALM,
        tokenizer: ReplyTokenizer,
        scenarios: ScenariosAt,
        reward: Reward,
        episode_chunks: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.scenarios, self.reward = model, tokenizer, scenarios, reward
        self.episode_chunks = episode_chunks
        self.version = -1

    def load(self, weights: Weights, version: int) -> None:
        """Take over weights, where they are not those that it has."""
        if self.version != version:
            self.model.load_state_dict(dict(weights))
            self.version = version

    def play(self, task: Task) -> list[Played]:
        """Play a task's episodes."""
        scenarios = self.scenarios(task.progress)
        with torch.no_grad():
            rollouts = collect(
                self.model.eval(),
                self.tokenizer,
                scenarios,
                task.seeds,
                self.reward,
                task.sampling_seed,
                task.first,
                self.episode_chunks,
            )
        return [Played(seed, self.version, rollout) for seed, rollout in zip(task.seeds, rollouts, strict=True)]


class Backend(Protocol):
    """Somewhere to play."""

    def put(self, weights: Weights) -> int:
        """Make weights known, once for all tasks that follow; return their version, one more than the last."""

    def begin(self, task: Task) -> Any:
        """Begin a task with the newest weights; return what `end` takes."""

    def end(self, begun: Any) -> list[Played]:
        """Wait for a task.

        Raises:
            PolicyError: when it cannot be played.
            SoundFlowError: when what it is played with fails, such as the reward.
        """

    def bills(self) -> dict[str, Bill]:
        """Return what scoring has cost in processes other than this one, those that live still."""

    def close(self) -> None:
        """End the workers."""


class RolloutWorkers:
    """Gives rollouts for seeds; `request` begins them, `gather` waits for them, and `put` may come in between.

    Args:
        backend: `LocalBackend` or `RayBackend`.
        episodes_per_task: Played in one batch by one worker.
        max_staleness: By how many versions of the weights a rollout may be behind when it is gathered; an older one is
            thrown away, and its episodes are played again with the newest weights.
    """

    def __init__(self, backend: Backend, episodes_per_task: int = 16, max_staleness: int = 1) -> None:
        if episodes_per_task < 1 or max_staleness < 0:
            raise PolicyError(
                f"episodes_per_task is {episodes_per_task} and max_staleness {max_staleness}, expected at least 1 and 0"
            )
        self.backend, self.episodes_per_task, self.max_staleness = backend, episodes_per_task, max_staleness
        self.version = -1
        self.redone = 0  # episodes that were too old
        self._begun: list[tuple[Task, int, Any]] = []  # with the version of the weights that it is played with

    def put(self, weights: Weights) -> None:
        """Give the workers new weights: the policy's `state_dict`, which is copied. Once an iteration."""
        self.version = self.backend.put(weights)

    def request(self, seeds: Sequence[int], sampling_seed: int, first_episode: int = 0, progress: float = 0.0) -> None:
        """Begin one episode for each scenario seed, with the weights that were put last.

        Args:
            seeds: Of the scenarios.
            sampling_seed: With an episode's number, what it draws from.
            first_episode: The first one's number.
            progress: Share of the training that is done then, in [0, 1].

        Raises:
            PolicyError: when none were.
        """
        if self.version < 0:
            raise PolicyError("rollouts were requested before any weights were put; call put() first")
        for first in range(0, len(seeds), self.episodes_per_task):
            own = tuple(seeds[first : first + self.episodes_per_task])
            task = Task(first_episode + first, own, sampling_seed, progress)
            self._begun.append((task, self.version, self.backend.begin(task)))

    def gather(self) -> list[Played]:
        """Wait for all that was requested; return each of its episodes once, in the order of the requests.

        Raises:
            PolicyError: when a task cannot be played.
        """
        oldest = self.version - self.max_staleness
        tasks = []
        for task, version, begun in self._begun:
            stale = version < oldest
            self.redone += stale * len(task.seeds)
            tasks.append(self.backend.begin(task) if stale else begun)  # all of them, before the first is waited for
        self._begun = []
        return [played for begun in tasks for played in self.backend.end(begun)]

    def bills(self) -> dict[str, Bill]:
        """Return what scoring has cost in processes other than this one, those that live still."""
        return self.backend.bills()

    def close(self) -> None:
        """End the workers."""
        self.backend.close()


class LocalBackend:
    """Plays in this process, at once."""

    def __init__(self, player: Player) -> None:
        self.player = player

    def put(self, weights: Weights) -> int:
        """Have the player take over the weights; return their version."""
        self.player.load(weights, self.player.version + 1)
        return self.player.version

    def begin(self, task: Task) -> list[Played]:
        """Play a task."""
        return self.player.play(task)

    def end(self, begun: list[Played]) -> list[Played]:
        """Return what was played."""
        return begun

    def bills(self) -> dict[str, Bill]:
        """Return none: the reward is this process's own."""
        return {}

    def close(self) -> None:
        """There is nothing to end."""


class RayBackend:
    """Plays in Ray actors; `ray.init` decides on which machines. Needs the extra `ray`.

    Weights are put into Ray's store once a version, and fetched once a machine. An actor that dies is started again,
    and Ray has it play again what it was playing; a task has one answer, so nothing is counted twice.

    Args:
        player: Each actor has a copy; it is pickled.
        num_workers: Actors.
        num_cpus: Cores that each takes.
        num_gpus: GPUs that each takes, or a part of one.

    Raises:
        PolicyError: when there is to be no actor, Ray is not installed, or its cluster has too few cores for all.
    """

    def __init__(self, player: Player, num_workers: int, num_cpus: float = 1, num_gpus: float = 0) -> None:
        if num_workers < 1:
            raise PolicyError(f"num_workers is {num_workers}, expected at least 1")
        self._ray = import_ray()
        # held for as long as the actors: one that is started again asks for it once more
        shared = copy.copy(player)
        shared.model, shared.version = copy.deepcopy(player.model).cpu(), -1
        self._shared = self._ray.put(shared)
        wanted, has = num_workers * num_cpus, self._ray.cluster_resources().get("CPU", 0)
        if wanted > has:  # Ray would wait for more machines, for ever
            raise PolicyError(
                f"{num_workers} rollout workers take {wanted:g} cores, and Ray's cluster has {has:g}; ask for fewer"
                " (ppo.rollout_workers), or add machines to the cluster first"
            )
        actor = self._ray.remote(_RayPlayer).options(
            num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS
        )
        self.actors = [actor.remote(self._shared, num_gpus > 0) for _ in range(num_workers)]
        self._next = 0
        self._weights: Any = None
        self._version = -1

    def put(self, weights: Weights) -> int:
        """Put the weights into Ray's store; return their version."""
        own = {name: tensor.detach().cpu() for name, tensor in weights.items()}
        self._weights, self._version = self._ray.put(own), self._version + 1
        return self._version

    def begin(self, task: Task) -> Any:
        """Hand a task to the next actor; return a reference to its episodes."""
        actor = self.actors[self._next % len(self.actors)]
        self._next += 1
        return actor.play.remote(task, self._weights, self._version)

    def end(self, begun: Any) -> list[Played]:
        """Wait for a task.

        Raises:
            PolicyError: when it failed, or its actor died again and again.
            SoundFlowError: what the worker raised, such as a reward's failure.
        """
        played: list[Played] = self._wait(begun)
        return played

    def bills(self) -> dict[str, Bill]:
        """Return what scoring has cost the actors, since each was started last.

        Raises:
            PolicyError: when an actor died again and again.
        """
        own: list[dict[str, Bill]] = self._wait([actor.bills.remote() for actor in self.actors])
        return sum_bills(own)

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            self._ray.kill(actor)

    def _wait(self, asked: Any) -> Any:
        try:
            return self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, SoundFlowError):  # what it would have said here: Ray's own begins with the actor
                raise cause from error
            raise PolicyError(first_line(f"a worker cannot play its episodes: {error}")) from error


class _RayPlayer:
    """A `Player` in a process of its own."""

    def __init__(self, player: Player, on_gpu: bool) -> None:
        self.player = player
        player.model.to("cuda" if on_gpu else "cpu")
        for bill in self.player.reward.bills.values():
            bill.clear()  # it came with what the learner has paid so far

    def play(self, task: Task, weights: Weights, version: int) -> list[Played]:
        """Play a task; embeddings come back in the learner's kind of memory."""
        self.player.load(weights, version)
        played = self.player.play(task)
        for one in played:
            one.rollout.embeddings = [embedding.cpu() for embedding in one.rollout.embeddings]
        return played

    def bills(self) -> dict[str, Bill]:
        """Return what scoring has cost here."""
        return self.player.reward.bills

    def process(self) -> int:
        """Return the id of its process."""
        return os.getpid()


def make_workers(player: Player, config: ReinforcementConfig, episodes: int) -> RolloutWorkers:
    """Return what plays the `episodes` of an iteration that are one process's: that process, or its Ray actors."""
    ray = config.rollout_workers
    backend: Backend = RayBackend(player, ray) if ray else LocalBackend(player)
    each = math.ceil(episodes / max(ray, 1))
    return RolloutWorkers(backend, config.episodes_per_task or each, config.max_staleness)


def import_ray() -> Any:
    """Return Ray, whose workers run in the environment that this process runs in.

    Under `uv run` Ray would have each worker make an environment of its own, out of a copy of the working folder.

    Raises:
        PolicyError: when it is not installed.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # read when it is imported
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PolicyError("Ray is not installed; install the extra: uv sync --extra ray") from error
    return ray
