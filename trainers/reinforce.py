"""A run that begins with a trained policy and reinforces it: `kind: ppo`, for PPO and for GRPO."""

import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt

from envs.curriculum import Curriculum, Stage
from envs.files import write_text
from envs.metrics import compare_traces
from policies.modeling_lalm import LALM
from policies.policy_folder import read_policy, write_policy
from policies.tokenizer import ReplyTokenizer
from trainers.card import reinforced_card
from trainers.checkpoints import module_digest
from trainers.clips import ClipFolder
from trainers.config import (
    EvaluationConfig,
    JudgingConfig,
    ModelConfig,
    QuickstartConfig,
    ReinforcementConfig,
    ScenesConfig,
    Seed,
    StreamsConfig,
)
from trainers.learners import Learners, learning_device
from trainers.memory import check_minibatch
from trainers.ppo_parameters import train_only_what_is_asked
from trainers.ppo_streams import held_out_streams, played_streams, suite_of
from trainers.results import Results, results_json
from trainers.run import Run, compose_suites, judge_model, prepare
from trainers.run_folder import CHECKPOINTS, begin_run, check_run_folder, is_complete, words
from trainers.scenes import PPO_SEEDS, seeds
from trainers.sharding import check_fsdp
from trainers.stage_config import SOUNDS, Data
from trainers.stage_data import part_scenarios

_METRICS = "metrics.json"


@dataclass(frozen=True)
class PPORunConfig:
    """A run of PPO or GRPO.

    Attributes:
        kind: What tells it from other runs.
        policy: The policy folder to begin with.
        seed: Of everything that is drawn.
        scenes: Which streams are composed; how long those of ability Proactive are, and how many sounds in them deserve
            a reply.
        data: The mix of streams that are played, as a supervised stage has it. The policy is judged on held-out streams
            of each part.
        ppo: What is optimised, and how.
        checkpoint_every: Iterations after which the run's state is kept.
        curriculum: How the streams of ability Proactive grow harder in the course of the run, by share of its
            iterations; the policy is judged on streams without one. A stage composes its streams when it begins.
        evaluation: How the policy is judged, before and after; it keeps its threshold.
        reward: Named components, one at least.
    """

    kind: Literal["ppo"] = "ppo"
    policy: str = "runs/quickstart/policy"
    seed: Seed = 0
    scenes: StreamsConfig = field(default_factory=StreamsConfig)
    data: Data = SOUNDS
    ppo: ReinforcementConfig = field(default_factory=ReinforcementConfig)
    checkpoint_every: PositiveInt = 1
    curriculum: tuple[Stage, ...] = ()
    evaluation: JudgingConfig = field(default_factory=JudgingConfig)
    reward: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.reward:
            raise ValueError("reward is [], expected one component at least, such as {name: latency, weight: 1.0}")
        for name, count in Counter(part.name for part in self.data).items():
            if count > 1:
                raise ValueError(f"data names {name!r} {count} times; name it once, with the weight of all")
        if self.ppo.streams < len(self.data):
            raise ValueError(f"ppo.streams is {self.ppo.streams}, expected one for each part of data at least")
        if self.curriculum and not any(part.is_of_sounds for part in self.data):
            raise ValueError("a curriculum changes the streams of ability Proactive, and data has none of them")


def run_ppo(config: PPORunConfig, out: Path, clips: ClipFolder | None = None) -> None:
    """Reinforce a policy and judge it before and after; everything is written under `out`.

    Writes `config.yaml`, `policy/`, TensorBoard events in `logs/`, checkpoints while it trains, and at last
    `metrics.json`: on each suite of held-out streams the metrics before and after, and their difference, paired over
    the streams; and `bills.json` where a scorer of the reward cost something. Killed and started again with the same
    arguments, it goes on after the latest checkpoint, and on a CPU the policy has the bytes of a run that was not
    killed. What another run left there is kept in `earlier-N/`. Under `torchrun`, all processes learn, and the main one
    writes and judges; `out` has to be seen by all of them.

    Args:
        config: Of the run.
        out: Its folder.
        clips: Recordings to train on and to judge by, beside the built-in sounds.

    Raises:
        PolicyError: when `config.policy` is no policy folder, or the new one cannot be written.
        ConfigError: when `out` cannot be a folder, the reward or the curriculum fails, a minibatch is more than the
            memory, or `ppo.fsdp` is asked for and there is one process; nothing is written then.
        SoundFlowError: when `clips` or a part of the data cannot be used; nothing is written then.
        OSError: when a result cannot be written; it is not left half-written.
    """
    check_fsdp("ppo.fsdp", config.ppo.fsdp)
    torch.manual_seed(config.seed)
    check_run_folder(out)
    model, tokenizer, _ = read_policy(Path(config.policy))
    run = prepare(_as_quickstart(config, model), out, clips)
    curriculum = Curriculum(run.scenarios(), config.curriculum)
    for part in config.data:  # what is not there is said before minutes of composing
        part_scenarios(part, curriculum.base)
    if config.ppo.lora_rank:  # adapters come later, with all else frozen
        model.requires_grad_(False)
    else:
        train_only_what_is_asked(model, config.ppo)
    check_minibatch(config.ppo, model, _least_chunks(config), Learners())
    asked = words(config, recordings=run.recordings_name, policy=module_digest(model))
    if int(os.environ.get("RANK", "0")) > 0:  # torchrun says so; the main process judges and writes
        if not is_complete(out, asked, _METRICS):
            _reinforce(run, curriculum, config, model, tokenizer)
        return
    if not begin_run(out, asked, _METRICS):
        return
    _compose_held_out(run, config)
    model.to(learning_device())  # where it is judged before, too
    results: Results = {}
    before = judge_model(run, model, tokenizer, "before", results)
    _reinforce(run, curriculum, config, model, tokenizer)
    after = judge_model(run, model, tokenizer, "after", results)
    for suite, table in results.items():
        samples = config.evaluation.bootstrap
        table["difference"] = compare_traces(after[suite], before[suite], config.seed, samples)
        gain = table["difference"]["mean_reward"]
        span = "" if gain.low is None or gain.high is None else f" [{gain.low:+.3f}, {gain.high:+.3f}]"
        print(f"{suite}: difference: mean_reward {gain.value:+.3f}{span}")
    streams = ", ".join(f"{part.name} ({part.weight:g})" for part in config.data)
    card = reinforced_card(
        config.policy, config.seed, config.ppo, streams, words(config), model, results, run.recordings
    )
    write_policy(out / "policy", model, tokenizer, card)
    document = results_json(results)
    run.write_bills()
    write_text(out / _METRICS, json.dumps({**document, "seconds": run.seconds}, indent=2, allow_nan=False))
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # large, and of no use to anybody now
    print(f"policy: {out / 'policy'}   metrics: {out / _METRICS}")


def _least_chunks(config: PPORunConfig) -> int:
    """Return how long the shortest stream may be that is played, as far as the configuration says it."""
    if not all(part.is_of_sounds for part in config.data):
        return 1
    lengths = [stage.chunks[0] for stage in config.curriculum if stage.chunks is not None]
    return min(config.scenes.min_chunks, config.ppo.episode_chunks or config.scenes.min_chunks, *lengths)


def _as_quickstart(config: PPORunConfig, model: LALM) -> QuickstartConfig:
    """Return what the phases of trainers/run.py know a run by; of the model they ask how fast it speaks."""
    return QuickstartConfig(
        seed=config.seed,
        scenes=ScenesConfig(**asdict(config.scenes)),
        model=ModelConfig(tokens_per_chunk=model.layout.tokens_per_chunk),
        ppo=config.ppo,
        evaluation=EvaluationConfig(**asdict(config.evaluation)),
        reward=config.reward,
    )


def _compose_held_out(run: Run, config: PPORunConfig) -> None:
    """Compose the streams to judge by: of each part of the mix, and of recordings where there are some."""
    parts = {suite_of(part): part for part in config.data}
    usual = parts.pop("held_out", None)
    compose_suites(run, foley=usual is not None, validation=False)
    for suite, part in parts.items():
        with run.phase(f"compose {suite}"):
            run.held_out[suite] = held_out_streams(part, config.scenes, config.seed)


def _reinforce(run: Run, curriculum: Curriculum, config: PPORunConfig, model: LALM, tokenizer: ReplyTokenizer) -> None:
    from trainers.ppo import train_ppo  # noqa: PLC0415 - importing TRL takes seconds

    with run.phase(f"reinforce ({config.ppo.algorithm})"):
        wanted = seeds(PPO_SEEDS, config.seed, config.ppo.streams)
        here = not config.ppo.rollout_workers  # actors compose what they play: seeds are sent, and no sound
        scenarios = played_streams(config.data, curriculum, wanted, config.scenes, here)
        train_ppo(
            model,
            tokenizer,
            scenarios,
            wanted,
            run.reward,
            config.ppo,
            run.out / "logs" / config.ppo.algorithm,
            config.seed,
            run.out / CHECKPOINTS,
            config.checkpoint_every,
        )
