"""The phases that runs share: read, split and compose, find the threshold, play."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from tqdm import tqdm

from envs.clip_library import ClipLibrary
from envs.errors import ManifestError
from envs.foley import Foley
from envs.metrics import evaluate_traces
from envs.planning import deal
from envs.proactive import DealtScenarios, ProactiveScenarios
from envs.rewards import Reward, reward_from_config
from envs.rewards.bill import BILLS, write_bills
from envs.scenario import Scenario
from envs.sound_classes import SOUND_CLASSES
from envs.sources import ClipSource, Mixture
from envs.stream_env import default_scenarios
from envs.tokenizer import ByteTokenizer
from envs.trace import Trace
from policies.base import Policy
from policies.baselines import make_baseline
from policies.engine import Sampling
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from trainers.clips import ClipFolder
from trainers.compose import fingerprint
from trainers.config import QuickstartConfig
from trainers.evaluation import play
from trainers.results import Results
from trainers.scenes import (
    HELD_OUT_SEEDS,
    VALIDATION_SEEDS,
    Composed,
    seeds,
)

_SHOWN = ("trigger_f1", "trigger_precision", "trigger_recall", "latency_p50_s", "reply_quality", "mean_reward")


@dataclass
class Run:
    """What the phases of one quickstart share."""

    config: QuickstartConfig
    out: Path
    source: ClipSource
    captions: list[str]
    replies: list[str]  # all that the agent may want to say
    reward: Reward
    recordings: ClipLibrary | None  # trained on, where clips are given
    held: ClipLibrary | None  # judged by
    validation: Composed = field(init=False)
    held_out: dict[str, Composed] = field(default_factory=dict)  # "held_out" and, with recordings, "real_held_out"
    seconds: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    @cached_property
    def recordings_name(self) -> str | None:
        """A name of what clips gave to train on, that changes when it does; None where there are no clips."""
        return None if self.recordings is None else fingerprint(self.recordings)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase under its name; what it took before a kill counts."""
        begin = time.perf_counter()
        print(f"[{name}]", flush=True)
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 1)

    def write_bills(self) -> None:
        """Write what the reward's scorers have cost into `bills.json`, where they cost something, and print it."""
        if self.reward.bills:
            write_bills(self.out / BILLS, self.reward.bills)
        for name, bill in self.reward.bills.items():
            print(f"{name}: {bill}")

    def scenarios(self) -> ProactiveScenarios:
        """Return the scenarios that policies are trained on."""
        scenes = self.config.scenes
        return ProactiveScenarios(self.source, scenes.respond_share, (scenes.min_chunks, scenes.max_chunks))


def prepare(config: QuickstartConfig, out: Path, clips: ClipFolder | None) -> Run:
    """Read the clips and split them.

    Raises:
        ConfigError: when the reward fails.
        ManifestError: when the clips cannot be used, or are too few to hold some out.
        ScenarioError: when there is no such fold.
    """
    reward = reward_from_config(config.reward)
    _try_out(reward)
    scenes, foley = config.scenes, Foley()
    library, held = split_clips(clips, scenes.held_out_clips) if clips else (None, None)
    source: ClipSource = foley
    if library is not None and scenes.real_share > 0:
        shares = (1 - scenes.real_share, scenes.real_share)
        source = Mixture((foley, library), shares) if scenes.real_share < 1 else library
    return Run(config, out, source, *known_texts(library), reward, library, held)


def compose_suites(run: Run, foley: bool = True, validation: bool = True) -> None:
    """Compose the streams that are kept for the threshold and for the end; those of foley only where asked for.

    Args:
        run: Takes them.
        foley: Compose those of built-in sounds to judge by.
        validation: Compose those for the threshold.
    """
    config, scenes = run.config, run.config.scenes
    span = (scenes.min_chunks, scenes.max_chunks)
    with run.phase("compose held-out streams"):
        if validation:
            wanted = seeds(VALIDATION_SEEDS, config.seed, scenes.validation_count)
            run.validation = Composed(run.scenarios(), wanted, scenes.workers)
        if foley:
            wanted = seeds(HELD_OUT_SEEDS, config.seed, scenes.held_out_count)
            streams = ProactiveScenarios(Foley(), scenes.respond_share, span)
            run.held_out["held_out"] = Composed(streams, wanted, scenes.workers)
        if run.held is not None:
            plans = deal(run.held, config.seed, respond_share=scenes.respond_share, chunks=span)
            dealt = DealtScenarios(tuple(plans), config.seed)
            run.held_out["real_held_out"] = Composed(dealt, range(len(dealt)), scenes.workers)
            count = run.held.num_sources("RESPOND")  # intervals are over streams, which share these
            print(f"real_held_out: {len(dealt)} streams; what deserves a reply is of {count} recordings or speakers")


def _try_out(reward: Reward) -> None:
    """Play one stream under a reward, so that one that fails does so before minutes of training.

    Raises:
        ConfigError: naming the component, when it fails.
    """
    tokenizer = ByteTokenizer()
    always = make_baseline("always", 1, tokenizer, 16, 0)
    play(always, default_scenarios(), [0], num_slots=1, tokenizer=tokenizer, tokens_per_chunk=16, reward=reward)


def split_clips(clips: ClipFolder, share: float) -> tuple[ClipLibrary, ClipLibrary]:
    """Read a folder of clips and return (train, held out).

    Raises:
        ManifestError: when the clips cannot be used, or are too few to hold some out.
        ScenarioError: when there is no such fold.
    """
    train, held = clips.split(share)
    if not held.has("IGNORE"):
        raise ManifestError(
            f"{clips.path}: of its {len(train) + len(held)} recordings none that deserves silence can be held out; a"
            " label needs at least two recordings or speakers, one to train on and one to judge by (clips whose columns"
            " recording and speaker are blank count as one where source and label agree)"
        )
    return train, held


def known_texts(library: ClipLibrary | None) -> tuple[list[str], list[str]]:
    """Return the captions of all sounds, and the replies to those that deserve one."""
    clips = [] if library is None else [recording.clip for recording in library.recordings]
    captions = [sound.caption for sound in SOUND_CLASSES.values()] + sorted({clip.caption for clip in clips})
    answers = [sound.answer for sound in SOUND_CLASSES.values() if sound.answer is not None]
    answers += [answer for clip in clips for answer in clip.answers]
    replies = dict.fromkeys(reply for answer in answers for reply in answer.replies)
    return captions, list(replies)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: between two calls its idle threads spin, on cores that worker processes need."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def play_model(
    run: Run,
    model: LALM,
    tokenizer: ReplyTokenizer,
    streams: Callable[[int], Scenario],
    wanted: Sequence[int],
    threshold: float = 0.5,
) -> list[Trace]:
    """Play the model on streams, at a decision threshold; return the traces in the order of `wanted`."""
    slots = min(run.config.evaluation.batch_size, len(wanted))
    policy = LALMPolicy(model, tokenizer, slots, Sampling(threshold=threshold, seed=run.config.seed))
    return play_policy(run, policy, streams, wanted, tokenizer, slots)


def play_policy(
    run: Run,
    policy: Policy,
    streams: Callable[[int], Scenario],
    wanted: Sequence[int],
    tokenizer: ReplyTokenizer,
    slots: int,
) -> list[Trace]:
    """Play a policy of `slots` streams at once; return the traces in the order of `wanted`."""
    return play(
        policy,
        streams,
        wanted,
        num_slots=slots,
        tokenizer=tokenizer,
        tokens_per_chunk=run.config.model.tokens_per_chunk,
        reward=run.reward,
    )


def judge_model(
    run: Run,
    model: LALM,
    tokenizer: ReplyTokenizer,
    name: str,
    results: Results,
) -> dict[str, list[Trace]]:
    """Judge a policy on every held-out set; its metrics go into `results` under its name. Return its traces."""
    played = {}
    for suite, streams in run.held_out.items():
        with run.phase(f"judge {name} on {suite}"):
            played[suite] = play_model(run, model, tokenizer, streams, list(streams.by_seed))
            metrics = evaluate_traces(played[suite], run.config.seed, run.config.evaluation.bootstrap)
        results.setdefault(suite, {})[name] = metrics
        print(
            f"{suite}: {name}: "
            + ", ".join(f"{m} {metrics[m].value:.3f}" for m in _SHOWN if metrics[m].value is not None)
        )
    return played


def calibrate(run: Run, model: LALM, tokenizer: ReplyTokenizer) -> None:
    """Shift the decision so that P(response) = 0.5 is the threshold of the best trigger F1 on validation streams.

    The reward has no say here: what it is worth to trade misses for false alarms, or words for time, is PPO's to learn.
    """
    with run.phase("find the decision threshold"):
        scores = {}
        for threshold in tqdm(run.config.evaluation.thresholds, unit="threshold"):
            traces = play_model(run, model, tokenizer, run.validation, list(run.validation.by_seed), threshold)
            scores[threshold] = evaluate_traces(traces, run.config.seed, 1)["trigger_f1"].value or 0.0
    best = max(scores, key=lambda t: scores[t])
    with torch.no_grad():
        model.decision_head.bias.sub_(math.log(best / (1 - best)))
    print(f"threshold {best}: trigger F1 {scores[best]:.3f} on validation streams", flush=True)
