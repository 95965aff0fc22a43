"""Workers: the same rollouts wherever they are played, none too old, none lost, none twice."""

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from envs.errors import ConfigError, PolicyError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from tests.trainers.broken_reward import BROKEN_REWARD
from trainers.config import ReinforcementConfig
from trainers.ppo import StreamPPOTrainer, make_trainer
from trainers.rollout_workers import LocalBackend, Played, Player, RayBackend, RolloutWorkers, import_ray
from trainers.rollouts import collect
from trainers.run import one_thread
from trainers.scenes import Steady

NEEDS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra `ray` brings it"
)
SCENARIOS = ProactiveScenarios(Foley(), 0.8, (13, 16))
ALWAYS = Steady(SCENARIOS)
REWARD = Reward.default()
SEEDS, HALF, SAMPLING_SEED = range(100, 106), 3, 7
SILENT, EAGER = -1.5, 1.5


def model_of(tokenizer: ReplyTokenizer, bias: float) -> LALM:
    """A model that speaks more or less often."""
    model = tiny_model(tokenizer)
    model.decision_head.bias.data.fill_(bias)
    return model


def local(tokenizer: ReplyTokenizer, per_task: int = 2, **more: int) -> RolloutWorkers:
    player = Player(tiny_model(tokenizer, seed=9), tokenizer, ALWAYS, REWARD)
    return RolloutWorkers(LocalBackend(player), per_task, **more)


def lived(played: list[Played]) -> list[Any]:
    """Return what episodes were, whatever the number of their weights."""
    rollouts = [one.rollout for one in played]
    seeds = [one.seed for one in played]
    return [*seeds, *((r.trace.to_json(), r.turns, r.log_prob, r.reward) for r in rollouts)]


@pytest.fixture(autouse=True)
def _as_the_actors() -> Iterator[None]:
    with one_thread():  # more of them add up in another order
        yield


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = import_ray()
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def actors(ray: Any, tokenizer: ReplyTokenizer) -> Iterator[RayBackend]:
    backend = RayBackend(Player(tiny_model(tokenizer, seed=9), tokenizer, ALWAYS, REWARD), 2)
    yield backend
    backend.close()


def test_a_task_at_a_time_is_all_at_once(tokenizer: ReplyTokenizer) -> None:
    """What PPO collects in one batch, to the accuracy of a batch of another size."""
    model, workers = model_of(tokenizer, EAGER), local(tokenizer)
    workers.put(model.state_dict())
    workers.request(SEEDS, SAMPLING_SEED)
    played = workers.gather()
    whole = collect(model, tokenizer, SCENARIOS, SEEDS, REWARD, SAMPLING_SEED)
    assert [one.seed for one in played] == list(SEEDS)
    assert any(rollout.turns != whole[0].turns for rollout in whole)
    for one, rollout in zip(played, whole, strict=True):
        assert one.rollout.turns == rollout.turns
        assert one.rollout.log_prob == pytest.approx(rollout.log_prob, abs=1e-4)
        assert one.rollout.trace.to_json() == rollout.trace.to_json()
        torch.testing.assert_close(torch.stack(one.rollout.embeddings), torch.stack(rollout.embeddings))
    assert workers.gather() == []


@pytest.mark.parametrize(("max_staleness", "versions"), [(2, [0, 1]), (1, [2, 1]), (0, [2, 2])])
def test_rollouts_that_are_too_old_are_played_again(
    tokenizer: ReplyTokenizer, max_staleness: int, versions: list[int]
) -> None:
    """Requested with the first and the second weights, gathered with the third."""
    workers = local(tokenizer, max_staleness=max_staleness)
    for version, bias in enumerate((SILENT, EAGER, 0.0)):
        workers.put(model_of(tokenizer, bias).state_dict())
        if version < 2:
            workers.request(SEEDS[HALF * version :][:HALF], SAMPLING_SEED)
    played = workers.gather()
    assert [one.seed for one in played] == list(SEEDS)
    assert [one.version for one in played] == [versions[0]] * HALF + [versions[1]] * HALF
    assert workers.redone == HALF * versions.count(2)
    for which in set(versions):
        again = local(tokenizer)
        again.put(model_of(tokenizer, (SILENT, EAGER, 0.0)[which]).state_dict())
        for first in (0, HALF):
            again.request(SEEDS[first:][:HALF], SAMPLING_SEED)
        expected = {one.seed: one.rollout.log_prob for one in again.gather()}
        assert all(one.rollout.log_prob == expected[one.seed] for one in played if one.version == which)


def learned(tokenizer: ReplyTokenizer, folder: Path, **options: Any) -> StreamPPOTrainer:
    """Return what two iterations of PPO leave."""
    usual = {"iterations": 2, "episodes_per_iteration": 4, "minibatches": 1, "epochs": 1, "learning_rate": 1e-2}
    config = ReinforcementConfig(**{**usual, **options})
    trainer = make_trainer(model_of(tokenizer, 0.0), tokenizer, ALWAYS, SEEDS, REWARD, config, folder, 0)
    trainer.train()
    return trainer


def logged(trainer: StreamPPOTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history]


@NEEDS_RAY
@pytest.mark.usefixtures("ray", "hasty_critic")
def test_ppo_learns_from_actors_what_it_learns_alone(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    alone = learned(tokenizer, tmp_path, episodes_per_task=2)
    there = learned(tokenizer, tmp_path, episodes_per_task=2, rollout_workers=2)
    weights = there.policy.state_dict()
    assert all(weights[name].equal(value) for name, value in alone.policy.state_dict().items())
    assert logged(there, "rollouts/staleness") == logged(there, "rollouts/redone") == [0.0, 0.0]


@pytest.mark.usefixtures("hasty_critic")
def test_ppo_may_learn_from_the_policy_before(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """The second iteration earns what the first policy does, is told so, and begins with the ratios of another."""
    begun = learned(tokenizer, tmp_path, learning_rate=1e-12, decision_learning_rate=1e-12)
    fast = {"decision_learning_rate": 0.3}
    fresh, stale = (learned(tokenizer, tmp_path, max_staleness=k, **fast) for k in (0, 1))
    assert logged(stale, "reward/total") == logged(begun, "reward/total") != logged(fresh, "reward/total")
    assert logged(stale, "rollouts/staleness") == [0.0, 1.0]
    assert logged(fresh, "rollouts/staleness") == [0.0, 0.0]
    assert logged(fresh, "clipped/decision") == [0.0, 0.0]
    assert logged(stale, "clipped/decision")[0] == 0.0 < logged(stale, "clipped/decision")[1]


@NEEDS_RAY
def test_actors_play_what_this_process_plays(tokenizer: ReplyTokenizer, actors: RayBackend) -> None:
    """Bit for bit, with the weights of each version."""
    here, there = local(tokenizer), RolloutWorkers(actors, 2)
    for bias in (SILENT, EAGER):
        for workers in (here, there):
            workers.put(model_of(tokenizer, bias).state_dict())
            workers.request(SEEDS, SAMPLING_SEED)
        expected, found = here.gather(), there.gather()
        assert lived(found) == lived(expected)
        for one, other in zip(found, expected, strict=True):
            assert all(map(torch.equal, one.rollout.embeddings, other.rollout.embeddings))


@NEEDS_RAY
def test_the_episodes_of_a_killed_actor_are_played_again(
    ray: Any, tokenizer: ReplyTokenizer, actors: RayBackend
) -> None:
    here, there = local(tokenizer), RolloutWorkers(actors, 2)
    before = ray.get([actor.process.remote() for actor in actors.actors])
    for workers in (here, there):
        workers.put(model_of(tokenizer, EAGER).state_dict())
        workers.request(SEEDS, SAMPLING_SEED)
    os.kill(before[0], signal.SIGKILL)
    found = there.gather()
    assert lived(found) == lived(here.gather())
    after = ray.get([actor.process.remote() for actor in actors.actors])
    assert after[0] != before[0]
    assert after[1] == before[1]


@NEEDS_RAY
def test_a_task_that_fails_says_why(tokenizer: ReplyTokenizer, actors: RayBackend) -> None:
    workers = RolloutWorkers(actors, 2)
    workers.put({"decision_head.bias": torch.zeros(2)})
    workers.request(SEEDS[:2], SAMPLING_SEED)
    with pytest.raises(PolicyError, match="a worker cannot play its episodes") as error:
        workers.gather()
    assert "\n" not in str(error.value)


@NEEDS_RAY
@pytest.mark.usefixtures("ray")
def test_more_actors_than_the_cluster_has_cores_are_refused(tokenizer: ReplyTokenizer) -> None:
    """Ray waits for a machine that may never come: the run stood still, and said nothing."""
    with pytest.raises(PolicyError, match="3 rollout workers take 3 cores, and Ray's cluster has 2; ask for fewer"):
        RayBackend(Player(tiny_model(tokenizer), tokenizer, ALWAYS, REWARD), 3)


@NEEDS_RAY
@pytest.mark.usefixtures("ray")
def test_a_reward_that_fails_in_an_actor_is_named_as_it_is_here(tokenizer: ReplyTokenizer) -> None:
    """Ray's message begins with the actor, and a line further down was lost: which component, episode and step."""
    player = Player(tiny_model(tokenizer), tokenizer, ALWAYS, BROKEN_REWARD)
    backend = RayBackend(player, 1, num_cpus=0)  # the other tests' actors have them all
    workers = RolloutWorkers(backend, 2)
    workers.put(model_of(tokenizer, SILENT).state_dict())
    workers.request(SEEDS[:2], SAMPLING_SEED)
    with pytest.raises(ConfigError, match=r"^reward: component 'broken' gave nan at step 5 of scenario 100, expected"):
        workers.gather()
    workers.close()


def test_what_makes_no_sense_is_refused(tokenizer: ReplyTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError, match=r"call put\(\) first"):
        local(tokenizer).request(SEEDS, 0)
    with pytest.raises(PolicyError, match="max_staleness -1, expected at least 1 and 0"):
        local(tokenizer, max_staleness=-1)
    with pytest.raises(PolicyError, match="num_workers is 0"):
        RayBackend(Player(tiny_model(tokenizer), tokenizer, ALWAYS, REWARD), 0)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(PolicyError, match="uv sync --extra ray"):
        RayBackend(Player(tiny_model(tokenizer), tokenizer, ALWAYS, REWARD), 2)
