"""A gate's run: Stable-Baselines3 learns when to respond, and the run goes on after a kill."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from envs.curriculum import Curriculum
from envs.errors import ConfigError
from envs.files import write_text
from envs.metrics import Metric, evaluate_traces, metrics_json
from envs.rewards import Reward
from envs.tokenizer import ByteTokenizer
from envs.vector_env import StreamingAudioVectorEnv
from policies.frozen_encoder import FrozenEncoder
from policies.gate import ChunkEncoder, Gate, GateExtractor
from policies.gate_policy import GatePolicy
from policies.gate_vec_env import GateVecEnv
from policies.log_mel_encoder import LogMelEncoder
from trainers.checkpoints import module_digest, newest_checkpoint
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig, ScenesConfig
from trainers.evaluation import play
from trainers.gate_checkpoint import restore_gate_run, save_gate_run
from trainers.gate_config import GateConfig
from trainers.run import Run, compose_suites, prepare
from trainers.run_folder import CHECKPOINTS, begin_run, check_run_folder, words
from trainers.scenes import PPO_SEEDS, Composed, seeds

TOKENS_PER_CHUNK = 16  # bytes: the environment's default
_METRICS = "metrics.json"  # is written last
_SLOTS = 64  # streams at once where a gate is judged
_SHOWN = ("trigger_f1", "trigger_precision", "trigger_recall", "false_alarms_per_hour", "latency_p50_s", "mean_reward")


def run_gate(config: GateConfig, out: Path, clips: ClipFolder | None = None) -> None:
    """Train and judge a gate; everything is written under `out`.

    Writes `config.yaml`, `gate/` (see `policies.gate.Gate`), `metrics.json` of held-out streams, TensorBoard events in
    `logs/`, and `bills.json` where a scorer of the reward cost something. Where a run of the same configuration was
    killed, its last checkpoint is gone on from, and the gate is bit for bit that of a run that was not. What another
    run left there is kept in `earlier-N/`.

    Raises:
        ConfigError: when `out` cannot be a folder, the device is none, the reward fails, or the curriculum has a fault;
            nothing is written then.
        ManifestError: when `clips` cannot be used; nothing is written then.
        PolicyError: when the encoder's folder is no policy, or a checkpoint does not fit.
        OSError: when a result cannot be written; it is not left half-written.
    """
    check_run_folder(out)
    encoder = _encoder(config)
    streams = ScenesConfig(**asdict(config.scenes))
    run = prepare(QuickstartConfig(seed=config.seed, scenes=streams, reward=config.reward), out, clips)
    curriculum = Curriculum(run.scenarios(), config.curriculum)
    asked = words(config, recordings=run.recordings_name, encoder=module_digest(encoder))
    if not begin_run(out, asked, _METRICS):
        return
    compose_suites(run)
    about = {"words": asked}
    found = newest_checkpoint(out / CHECKPOINTS, about)
    env = _environment(config, run.reward, curriculum, encoder)
    model = _learner(config, env)
    if found is not None:
        restore_gate_run(found, model, env)
        print(f"going on after {model.num_timesteps} of {config.ppo.total_timesteps} steps", flush=True)
    model.set_logger(_logger(out / "logs", model.num_timesteps))
    with run.phase("train the gate"):
        left = config.ppo.total_timesteps - model.num_timesteps
        model.learn(left, _Supervision(config, run, encoder, about), reset_num_timesteps=found is None)
    env.close()
    gate = Gate(model.policy, encoder)
    gate.save(out / "gate")
    _judge(config, run, gate)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # the gate is what they were for


def _encoder(config: GateConfig) -> ChunkEncoder:
    encoder = LogMelEncoder() if config.encoder is None else FrozenEncoder.from_policy(config.encoder)
    try:
        return encoder.to(torch.device(config.device))
    except (RuntimeError, AssertionError) as error:  # torch says so in several ways
        raise ConfigError(f"device is {config.device!r}, expected one that torch has here, such as 'cpu'") from error


def _environment(config: GateConfig, reward: Reward, curriculum: Curriculum, encoder: ChunkEncoder) -> GateVecEnv:
    env = StreamingAudioVectorEnv(
        config.ppo.num_envs,
        curriculum.base,
        tokens_per_chunk=TOKENS_PER_CHUNK,
        reward=reward,
        autoreset=False,
    )
    return GateVecEnv(env, encoder, config.chunks, seeds(PPO_SEEDS, config.seed, 1)[0], curriculum.at)


def _learner(config: GateConfig, env: GateVecEnv) -> PPO:
    ppo = config.ppo
    return PPO(
        "MultiInputPolicy",
        env,
        learning_rate=ppo.learning_rate,
        n_steps=ppo.n_steps,
        batch_size=ppo.batch_size,
        n_epochs=ppo.n_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip_range,
        ent_coef=ppo.ent_coef,
        vf_coef=ppo.vf_coef,
        max_grad_norm=ppo.max_grad_norm,
        policy_kwargs={
            "features_extractor_class": GateExtractor,
            "features_extractor_kwargs": {"width": ppo.width},
            "net_arch": list(ppo.net_arch),
        },
        seed=config.seed,
        device="cpu",
    )


def _logger(folder: Path, first_step: int) -> Logger:
    """Return Stable-Baselines3's logger; what a killed run logged after its checkpoint is hidden."""
    output = TensorBoardOutputFormat(str(folder))
    if first_step:
        output.writer.close()
        output.writer = SummaryWriter(str(folder), purge_step=first_step + 1)
    return Logger(str(folder), [output])


class _Supervision(BaseCallback):
    """Between two rollouts: the progress, validation streams, what episodes earned, and the checkpoint."""

    def __init__(self, config: GateConfig, run: Run, encoder: ChunkEncoder, about: dict[str, Any]) -> None:
        super().__init__()
        self.config, self.run, self.encoder, self.about = config, run, encoder, about
        self.earned: list[dict[str, float]] = []  # of the episodes that ended in this rollout, by component
        self.bar: tqdm[Any] | None = None
        self.first = 0

    def _on_training_start(self) -> None:
        self.first = self.num_timesteps
        self.bar = tqdm(total=self.config.ppo.total_timesteps, initial=self.first, unit="step")

    def _on_rollout_start(self) -> None:
        env = self.training_env
        assert isinstance(env, GateVecEnv)
        assert isinstance(self.model, PPO)
        env.progress = min(self.num_timesteps / self.config.ppo.total_timesteps, 1.0)
        rollouts = self.num_timesteps // self.config.ppo.rollout
        if self.num_timesteps == self.first:  # nothing has happened since the beginning, or since the checkpoint
            return
        if rollouts % self.config.evaluate_every == 0:
            self._validate()
        self.logger.dump(self.num_timesteps)  # with the last update's numbers, which would wait for the next rollout
        if rollouts % self.config.checkpoint_every == 0:
            save_gate_run(self.run.out / CHECKPOINTS, self.model, env, self.about)

    def _on_step(self) -> bool:
        self.earned += [info["reward"] for info in self.locals["infos"] if "reward" in info]
        if self.bar is not None:
            self.bar.update(self.num_timesteps - self.bar.n)
        return True

    def _on_rollout_end(self) -> None:
        for name in self.earned[0] if self.earned else ():
            self.logger.record(f"reward/{name}", float(np.mean([earned[name] for earned in self.earned])))
        self.earned.clear()

    def _on_training_end(self) -> None:
        self._validate()
        self.logger.dump(self.num_timesteps)
        self.logger.close()
        if self.bar is not None:
            self.bar.close()

    def _validate(self) -> None:
        gate = Gate(self.model.policy, self.encoder)
        metrics = judge_gate(gate, self.run.validation, self.run.reward, self.config.seed, 1)
        for name in _SHOWN:
            if metrics[name].value is not None:
                self.logger.record(f"validation/{name}", metrics[name].value)
        f1 = metrics["trigger_f1"].value
        if self.bar is not None and f1 is not None:
            self.bar.set_postfix_str(f"validation F1 {f1:.3f}")


def judge_gate(gate: Gate, streams: Composed, reward: Reward, seed: int, resamples: int) -> dict[str, Metric]:
    """Play a gate, with its canned reply, on streams composed beforehand; return its metrics."""
    wanted, tokenizer = list(streams.by_seed), ByteTokenizer()
    slots = min(_SLOTS, len(wanted))
    policy = GatePolicy(gate, slots, tokenizer, TOKENS_PER_CHUNK)
    traces = play(
        policy,
        streams,
        wanted,
        num_slots=slots,
        tokenizer=tokenizer,
        tokens_per_chunk=TOKENS_PER_CHUNK,
        reward=reward,
    )
    return evaluate_traces(traces, seed, resamples)


def _judge(config: GateConfig, run: Run, gate: Gate) -> None:
    """Judge the gate on every held-out set; write `bills.json`, and `metrics.json` last: a run with it is complete."""
    results: dict[str, Any] = {}
    for suite, streams in run.held_out.items():
        with run.phase(f"judge the gate on {suite}"):
            metrics = judge_gate(gate, streams, run.reward, config.seed, config.bootstrap)
        results[suite] = metrics_json(metrics)
        shown = (f"{name} {metrics[name].value:.3f}" for name in _SHOWN if metrics[name].value is not None)
        print(f"{suite}: gate: {', '.join(shown)}", flush=True)
    run.write_bills()
    results["seconds"] = run.seconds
    write_text(run.out / _METRICS, json.dumps(results, indent=2, allow_nan=False))
    print(f"gate: {run.out / 'gate'}", flush=True)
