"""A run that reinforces a policy folder: what it writes, what it refuses, and that a kill costs nothing."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainers.credit
import trainers.ppo
from envs.errors import ConfigError, PolicyError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Moment
from envs.rewards.bill import Bill
from envs.stream_env import default_scenarios
from policies.lalm_policy import LALMPolicy
from policies.policy_folder import write_policy
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from trainers.config import JudgingConfig, ReinforcementConfig, StreamsConfig
from trainers.config_loading import load_config
from trainers.reinforce import PPORunConfig, run_ppo
from trainers.run import one_thread
from trainers.scenes import HELD_OUT_SEEDS, seeds

TRAP = "SOUNDFLOW_TEST_TRAP"


class Trap:
    """A component of the reward that earns nothing, and kills the process once there is a checkpoint.

    Its bill counts the steps that it saw.
    """

    def __init__(self) -> None:
        self.bill = Bill()

    def value(self, moment: Moment) -> float:
        self.bill.calls += 1
        folder = os.environ.get(TRAP)
        if folder is not None and moment.step == 3 and list(Path(folder).glob("step-*")):
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.0


REWARD = [
    {"name": "latency", "weight": 1.0},
    {"name": "false_alarm", "weight": 1.0},
    {"name": "trap", "weight": 1.0, "class": "tests.trainers.test_reinforce:Trap"},
]
SCENES = StreamsConfig(min_chunks=9, max_chunks=12, held_out_count=3, workers=1)
PPO = ReinforcementConfig(iterations=3, episodes_per_iteration=2, epochs=1, minibatches=1, streams=4, content_coef=1.0)
pytestmark = pytest.mark.usefixtures("hasty_critic")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PPORunConfig:
    """A run that begins with a tiny policy."""
    folder = tmp_path_factory.mktemp("begin") / "policy"
    tokenizer = train_tokenizer(REPLIES, 300)
    write_policy(folder, tiny_model(tokenizer), tokenizer)
    return PPORunConfig(
        policy=str(folder), scenes=SCENES, ppo=PPO, evaluation=JudgingConfig(bootstrap=50), reward=REWARD
    )


def curve(out: Path) -> list[tuple[int, float]]:
    """Return what TensorBoard shows of the reward: step and value; files of one second come in any order."""
    board = EventAccumulator(str(out / "logs" / "ppo")).Reload()
    return sorted((event.step, event.value) for event in board.Scalars("train/reward/total"))


def calls(out: Path) -> int:
    bills = json.loads((out / "bills.json").read_text())
    return int(bills["trap"]["calls"])


def walk_into_the_trap(config: PPORunConfig, out: Path) -> None:
    """Of a process: run until it is killed."""
    trainers.credit.CRITIC_STEPS = 2
    os.environ[TRAP] = str(out / "checkpoints")
    with one_thread():
        run_ppo(config, out)


def test_killed_and_started_again_it_writes_the_policy_of_a_run_that_was_not(
    config: PPORunConfig, tmp_path: Path
) -> None:
    """SIGKILL comes in the middle of the second iteration's rollouts, of itself: nobody has to catch the moment."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=walk_into_the_trap, args=(config, killed), daemon=True)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in (killed / "checkpoints").iterdir()] == ["step-00000001"]
    assert not (killed / "policy").exists()
    with one_thread():  # as it had: sums of several threads round otherwise
        run_ppo(config, killed)
        run_ppo(config, whole)
    names = sorted(path.name for path in (whole / "policy").iterdir())
    assert "model.safetensors" in names
    assert names == sorted(path.name for path in (killed / "policy").iterdir())
    for name in names:
        assert (killed / "policy" / name).read_bytes() == (whole / "policy" / name).read_bytes(), name
    began = (Path(config.policy) / "model.safetensors").read_bytes()
    assert (whole / "policy" / "model.safetensors").read_bytes() != began
    numbers = [json.loads((out / "metrics.json").read_text())["held_out"] for out in (killed, whole)]
    assert numbers[0] == numbers[1]
    assert curve(killed) == curve(whole)
    assert [step for step, _ in curve(whole)] == [1, 2, 3]
    streams = ProactiveScenarios(Foley(), SCENES.respond_share, (SCENES.min_chunks, SCENES.max_chunks))
    judged = sum(streams(seed).num_chunks for seed in seeds(HELD_OUT_SEEDS, 0, 3))
    tried_out = default_scenarios()(0).num_chunks
    assert calls(killed) == calls(whole) + judged + tried_out, "what was played before the kill was paid for, too"
    for out in (killed, whole):
        assert not (out / "checkpoints").exists()
        assert not list(out.glob("earlier-*"))


@pytest.mark.parametrize(
    "ppo",
    [replace(PPO, iterations=1), replace(PPO, iterations=1, algorithm="grpo", episodes_per_scenario=2, lora_rank=2)],
    ids=["ppo", "grpo"],
)
def test_it_judges_before_and_after_and_saves_a_policy(
    config: PPORunConfig, ppo: ReinforcementConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run_ppo(replace(config, ppo=ppo), out)
    numbers = json.loads((out / "metrics.json").read_text())["held_out"]
    before, after, difference = (numbers[who]["mean_reward"] for who in ("before", "after", "difference"))
    assert before["count"] == after["count"] == 3
    assert difference["value"] == pytest.approx(after["value"] - before["value"])
    printed = capsys.readouterr().out
    assert all(f"held_out: {who}: " in printed for who in ("before", "after", "difference"))
    policy = LALMPolicy.from_pretrained(out / "policy")
    card = ModelCard(policy.card or "")
    values = {r.metric_value for r in card.data.eval_results if r.metric_type == "mean_reward"}
    assert values == {round(after["value"], 4)}
    assert ppo.algorithm in card.data.tags
    assert f"began as the policy `{config.policy}`" in card.text
    assert yaml.safe_load((out / "config.yaml").read_text())["ppo"]["algorithm"] == ppo.algorithm
    (events,) = out.glob("logs/**/events.out.tfevents.*")
    board = EventAccumulator(str(events)).Reload()
    names = ("rollouts_s", "judge_s", "update_s", "rollout_share")
    seconds, judging, updating, share = (board.Scalars(f"train/time/{name}")[0].value for name in names)
    assert min(seconds, judging, updating) > 0.0
    assert share == pytest.approx(seconds / (seconds + judging + updating), rel=1e-4)


def test_another_run_keeps_what_was_there(config: PPORunConfig, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("kind: ppo\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "kept").write_text("")
    run_ppo(replace(config, ppo=replace(PPO, iterations=1)), tmp_path)
    assert (tmp_path / "earlier-1" / "checkpoints" / "kept").exists()
    assert (tmp_path / "earlier-1" / "config.yaml").read_text() == "kind: ppo\n"
    assert (tmp_path / "metrics.json").exists()


def test_what_cannot_work_is_said_before_anything_is_written(config: PPORunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(PolicyError, match="nowhere: no such policy folder"):
        run_ppo(replace(config, policy=str(tmp_path / "nowhere")), out)
    with pytest.raises(ConfigError, match="no component is called 'latencie'; did you mean 'latency'"):
        run_ppo(replace(config, reward=[{"name": "latencie"}]), out)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        run_ppo(config, tmp_path / "file")
    with pytest.raises(ConfigError, match=r"ppo\.fsdp is true, and there is one process, .*torchrun"):
        run_ppo(replace(config, ppo=replace(PPO, fsdp=True)), out)
    many = replace(PPO, episodes_per_iteration=10**9, streams=10**9)
    with pytest.raises(
        ConfigError, match=r"episodes_per_iteration is 1000000000 in 1 minibatches.* GB that (cpu|cuda) has"
    ):
        run_ppo(replace(config, ppo=many), out)
    with pytest.raises(ConfigError, match=r"ppo\.tokens_per_minibatch 1000000000: an update takes at least"):
        run_ppo(replace(config, ppo=replace(many, tokens_per_minibatch=10**9)), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: here\n", "reward is [], expected one component at least, such as {name: latency, weight: 1.0}"),
        ("kind: sft\nreward: [{name: miss}]\n", "kind is 'sft', expected 'ppo'"),
        ("ppo: {episode_per_scenario: 4}\nreward: [{name: miss}]\n", "did you mean 'ppo.episodes_per_scenario'?"),
    ],
)
def test_a_faulty_configuration_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(PPORunConfig, path)
    assert said in str(caught.value)
