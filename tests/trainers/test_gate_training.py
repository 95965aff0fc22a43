"""A gate's run: one YAML, curves to look at, a folder that decides, and after a kill the very same gate."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.clip_library import ClipLibrary
from envs.curriculum import Stage
from envs.errors import ConfigError, PolicyError
from envs.metrics import evaluate_traces
from envs.planning import deal
from envs.proactive import DealtScenarios
from envs.rewards import Moment
from envs.rewards.bill import Bill
from envs.stream_env import default_scenarios
from envs.tokenizer import ByteTokenizer
from policies.gate import Gate
from policies.gate_policy import GatePolicy
from policies.log_mel_encoder import LogMelEncoder
from policies.policy_folder import write_policy
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from tests.test_house import write_sounds
from trainers.cli import main
from trainers.config import ValidatedStreamsConfig
from trainers.config_loading import load_config
from trainers.evaluation import play
from trainers.gate_config import GateConfig, GatePPOConfig
from trainers.gate_training import TOKENS_PER_CHUNK, run_gate
from trainers.run import one_thread
from trainers.run_folder import CHECKPOINTS

STREAMS = ValidatedStreamsConfig(
    respond_share=0.8, min_chunks=14, max_chunks=18, validation_count=3, held_out_count=4, workers=1
)
PPO_OF_FIVE_ROLLOUTS = GatePPOConfig(total_timesteps=320, num_envs=4, n_steps=16, batch_size=32, learning_rate=3e-3)
REWARD = [{"name": "latency"}, {"name": "false_alarm"}, {"name": "fuse", "class": f"{__name__}:Fuse"}]
CURRICULUM = (Stage(0.25, distractors=0.1, answer_window_s=3.0), Stage(1.0))
CONFIG = GateConfig(
    ppo=PPO_OF_FIVE_ROLLOUTS,
    scenes=STREAMS,
    curriculum=CURRICULUM,
    reward=REWARD,
    evaluate_every=1,
    checkpoint_every=2,
    bootstrap=10,
)


class Fuse:
    """A reward component that kills its process 90 moments after a checkpoint has appeared, where it is lit."""

    checkpoints: Path | None = None

    def __init__(self) -> None:
        self.left, self.bill = 90, Bill()

    def value(self, moment: Moment) -> float:
        self.bill.calls += 1
        if self.checkpoints is not None and any(self.checkpoints.glob("step-*")):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
        return 0.0


def work(config: GateConfig, out: Path) -> None:
    with one_thread():  # more of them add up in another order
        run_gate(config, out)


def work_until_killed(config: GateConfig, out: Path) -> None:
    Fuse.checkpoints = out / CHECKPOINTS
    work(config, out)


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a run, without what the clock says."""
    events = EventAccumulator(str(out / "logs"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def results(out: Path) -> dict[str, Any]:
    return {name: part for name, part in json.loads((out / "metrics.json").read_text()).items() if name != "seconds"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(REPLIES, 300)
    folder = tmp_path_factory.mktemp("policy") / "policy"
    write_policy(folder, tiny_model(tokenizer), tokenizer)
    return folder


@pytest.fixture(scope="module")
def runs(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of each kind of observation, and one that was killed in the middle of a rollout and gone on with."""
    folder = tmp_path_factory.mktemp("runs")
    config, killed = replace(CONFIG, encoder=str(policy)), folder / "killed"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=work_until_killed, args=(config, killed), daemon=True)
    process.start()
    work(CONFIG, folder / "log-mel")
    work(config, folder / "encoder")
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert {path.name for path in killed.iterdir()} == {"config.yaml", CHECKPOINTS, "logs"}
    work(config, killed)
    return folder


def test_a_killed_run_becomes_the_same_gate(runs: Path) -> None:
    """Bit for bit; what it had logged after its checkpoint is not shown twice."""
    whole, killed = runs / "encoder", runs / "killed"
    for file in ("gate/gate.safetensors", "gate/gate.json", "config.yaml"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes()
    assert results(whole) == results(killed)
    assert curves(whole) == curves(killed)
    assert {path.name for path in killed.iterdir()} == {"bills.json", "config.yaml", "gate", "logs", "metrics.json"}
    paid = [json.loads((out / "bills.json").read_text())["fuse"]["calls"] for out in (whole, killed)]
    tried_out = default_scenarios()(0).num_chunks
    assert paid[1] >= paid[0] + tried_out, "what was scored before the kill was paid for, and the trial twice"


def test_a_run_shows_what_is_learned(runs: Path) -> None:
    shown = curves(runs / "log-mel")
    assert {"reward/latency", "reward/false_alarm", "rollout/ep_rew_mean", "train/value_loss"} <= shown.keys()
    for name in ("trigger_f1", "false_alarms_per_hour", "mean_reward"):
        assert [step for step, _ in shown[f"validation/{name}"]] == [64, 128, 192, 256, 320]
    assert results(runs / "log-mel")["held_out"].keys() >= {"trigger_f1", "latency_p50_s", "mean_reward"}


@pytest.mark.parametrize("name", ["log-mel", "encoder"])
def test_its_folder_is_judged_by_the_command_line(runs: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    clips = runs / "clips"
    if not clips.exists():
        write_sounds(clips)
    capsys.readouterr()
    assert main(["evaluate", "--policy", str(runs / name / "gate"), "--clips", str(clips), "--json"]) == 0
    gate = Gate.load(runs / name / "gate")
    assert isinstance(gate.encoder, LogMelEncoder) == (name == "log-mel")
    policy_ids = ByteTokenizer()
    policy = GatePolicy(gate, 4, policy_ids, TOKENS_PER_CHUNK)
    scenarios = DealtScenarios(tuple(deal(ClipLibrary.from_folder(clips), 0)), 0)
    traces = play(
        policy, scenarios, range(len(scenarios)), num_slots=4, tokenizer=policy_ids, tokens_per_chunk=TOKENS_PER_CHUNK
    )
    assert json.loads(capsys.readouterr().out) == {n: m.to_json() for n, m in evaluate_traces(traces).items()}


def test_a_run_of_another_configuration_begins_anew(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And keeps what was there."""
    out = runs / "log-mel"
    before = (out / "gate" / "gate.safetensors").read_bytes()
    run_gate(replace(CONFIG, seed=1, ppo=replace(PPO_OF_FIVE_ROLLOUTS, total_timesteps=64)), out)
    assert "is kept as" in capsys.readouterr().out
    assert (out / "earlier-1" / "gate" / "gate.safetensors").read_bytes() == before
    assert (out / "gate" / "gate.safetensors").read_bytes() != before


def test_what_cannot_be_run_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device is 'abacus', expected one that torch has here"):
        run_gate(replace(CONFIG, device="abacus"), tmp_path / "out")
    with pytest.raises(PolicyError, match="no such policy folder"):
        run_gate(replace(CONFIG, encoder=str(tmp_path / "nowhere")), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"curriculum: the last stage ends at 0\.5"):
        run_gate(replace(CONFIG, curriculum=(Stage(0.5),)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "gate.yaml").write_text("kind: gate\nppo: {num_envs: 3, n_steps: 10}\n")
    with pytest.raises(ConfigError, match=r"ppo: batch_size is 256, expected a divisor of num_envs \* n_steps"):
        load_config(GateConfig, tmp_path / "gate.yaml")
