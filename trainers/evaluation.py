"""Judge policies: play scenarios through the vector environment, collect traces, compute metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from envs.clip_library import ClipLibrary
from envs.errors import PolicyError, did_you_mean
from envs.metrics import Metric, evaluate_traces
from envs.rewards import Reward
from envs.scenario import Scenario
from envs.thinking import ThinkingTime, check_thinking
from envs.tokenizer import ByteTokenizer, TextTokenizer
from envs.trace import Trace
from envs.trace_files import check_trace_folder, write_traces
from envs.vector_env import StreamingAudioVectorEnv
from policies.base import Policy, Retiring
from policies.baselines import BASELINES, make_baseline
from policies.silero import load_detector
from trainers.built_in_suites import clip_suite
from trainers.classifier import train_classifier
from trainers.clips import ClipFolder

JUDGED_BASELINES = tuple(name for name in BASELINES if name != "oracle")  # which is told the scenarios it is judged on
_BASELINE = "baseline:"  # may stand before a baseline's name
GATE_FILE = "gate.json"  # by which a gate's folder is known
_BASELINE_TOKENS = 16  # bytes a chunk: the environment's default
Progress = Callable[[int], object]  # told how many more episodes have been finished


def play(
    policy: Policy,
    scenarios: Callable[[int], Scenario],
    seeds: Sequence[int],
    *,
    num_slots: int,
    tokenizer: TextTokenizer,
    tokens_per_chunk: int,
    reward: Reward | None = None,
    thinking_s: ThinkingTime = 0.0,
    progress: Progress = lambda _: None,
) -> list[Trace]:
    """Play one episode for each seed, `num_slots` at a time, and return their traces in the order of `seeds`.

    The simulated clock is the environment's: `thinking_s` is the time from a chunk's end to the effect of the action,
    or measured times, of which each action draws one (`Recording.thinking_times`).
    """
    env = StreamingAudioVectorEnv(
        num_slots,
        scenarios=lru_cache(maxsize=1)(scenarios),  # a last short wave repeats its last scenario
        tokenizer=tokenizer,
        tokens_per_chunk=tokens_per_chunk,
        reward=reward,
        thinking_s=thinking_s,
        autoreset=False,
    )
    traces: list[Trace] = []
    for first in range(0, len(seeds), num_slots):
        wave = list(seeds[first : first + num_slots])
        filled = wave + [wave[-1]] * (num_slots - len(wave))
        observations, _ = env.reset(options={"scenario_seeds": filled})
        policy.reset(np.ones(num_slots, bool))
        done = np.arange(num_slots) >= len(wave)
        _retire(policy, done)
        while not done.all():
            actions = policy.act(observations)
            for trace, probability, over in zip(env.traces, policy.response_probabilities, done, strict=True):
                if not over:
                    trace.probabilities.append(probability)
            observations, _, terminated, truncated, _ = env.step(actions)
            ended = (terminated | truncated) & ~done
            _retire(policy, ended)
            done |= ended
            if ended.any():
                progress(int(ended.sum()))
        traces += env.traces[: len(wave)]
    return traces


def _retire(policy: Policy, over: NDArray[np.bool_]) -> None:
    """Spare a policy the streams that are over: a wave lasts as long as its longest."""
    if isinstance(policy, Retiring):
        for slot in np.flatnonzero(over):
            policy.retire(int(slot))


@dataclass(frozen=True)
class Player:
    """A policy that is judged, and what the environment has to know of it."""

    policy: Policy
    tokenizer: TextTokenizer
    tokens_per_chunk: int

    def play(
        self,
        scenarios: Callable[[int], Scenario],
        seeds: Sequence[int],
        num_slots: int,
        thinking_s: ThinkingTime = 0.0,
        progress: Progress = lambda _: None,
    ) -> list[Trace]:
        """Play one episode for each seed, under the default reward; see `play`."""
        return play(
            self.policy,
            scenarios,
            seeds,
            num_slots=num_slots,
            tokenizer=self.tokenizer,
            tokens_per_chunk=self.tokens_per_chunk,
            thinking_s=thinking_s,
            progress=progress,
        )


def load_player(policy: str, num_slots: int, seed: int = 0, learned: ClipLibrary | None = None) -> Player:
    """Return a baseline (all but the oracle) by its name, or the policy of a folder.

    Args:
        policy: The name or the folder.
        num_slots: Streams at once.
        seed: Of what a baseline draws.
        learned: Recordings that the classifier learns from, beside built-in sounds.

    Raises:
        PolicyError: when it is neither a baseline nor a usable folder.
    """
    check_player(policy)
    policy = plain_name(policy)
    if policy in JUDGED_BASELINES:
        ids = ByteTokenizer()
        classifier = train_classifier(learned, seed) if policy == "classifier" else None
        baseline = make_baseline(policy, num_slots, ids, _BASELINE_TOKENS, seed, classifier=classifier)
        return Player(baseline, ids, _BASELINE_TOKENS)
    if (Path(policy) / GATE_FILE).exists():
        from policies.gate import Gate  # noqa: PLC0415 - torch is heavy, and baselines need none
        from policies.gate_policy import GatePolicy  # noqa: PLC0415 - likewise

        ids = ByteTokenizer()
        return Player(GatePolicy(Gate.load(policy), num_slots, ids, _BASELINE_TOKENS), ids, _BASELINE_TOKENS)
    from policies.lalm_policy import LALMPolicy  # noqa: PLC0415 - torch is heavy, and baselines need none

    loaded = LALMPolicy.from_pretrained(Path(policy), num_slots)
    return Player(loaded, loaded.tokenizer, loaded.tokens_per_chunk)


def plain_name(policy: str) -> str:
    """Return a policy's folder, or its baseline's name, which may be written as `baseline:NAME`.

    >>> plain_name("baseline:energy"), plain_name("energy"), plain_name("runs/a")
    ('energy', 'energy', 'runs/a')

    Raises:
        PolicyError: when there is no such baseline.
    """
    prefix, name = policy[: len(_BASELINE)], policy[len(_BASELINE) :]
    if prefix != _BASELINE:
        return policy
    if name not in JUDGED_BASELINES:
        hint = did_you_mean(name, JUDGED_BASELINES)
        raise PolicyError(f"{policy}: no baseline that can be judged is called {name!r}{hint}")
    return name


def check_player(policy: str) -> None:
    """Ask whether a policy can be loaded, as far as that shows without its weights.

    Raises:
        PolicyError: when it is neither a baseline that can be judged, with what it needs installed, nor a folder whose
            files are there and fit each other.
    """
    policy = plain_name(policy)
    if policy == "vad":
        load_detector()
    if policy in JUDGED_BASELINES:
        return
    folder = Path(policy)
    if not folder.exists():
        hint = did_you_mean(policy, JUDGED_BASELINES)
        raise PolicyError(f"{policy}: no such policy folder, and no baseline that can be judged{hint}")
    if (folder / GATE_FILE).exists():
        from policies.gate import check_gate  # noqa: PLC0415 - torch is heavy, and baselines need none

        check_gate(folder)
    else:
        from policies.policy_folder import check_policy  # noqa: PLC0415 - likewise

        check_policy(folder)


def evaluate_on_clips(
    policy: str,
    clips: ClipFolder,
    seed: int = 0,
    held_out: float | None = None,
    num_slots: int = 32,
    thinking_s: ThinkingTime = 0.0,
    traces: Path | None = None,
) -> dict[str, Metric]:
    """Judge a policy on proactive streams made of the recordings of a clip folder.

    Args:
        policy: A baseline's name (all but the oracle), a policy folder, or a gate's folder.
        clips: The recordings.
        seed: Of the streams.
        held_out: Judge only on this share of the recordings, those that every run holds out; the
            classifier is trained on the others and on built-in sounds. None: judge on all of them; the classifier
            is trained on built-in sounds alone.
        num_slots: Streams at once.
        thinking_s: See `play`.
        traces: A folder without traces, to write those of the streams to; None: they are not kept.

    Raises:
        PolicyError: when the policy is neither a baseline nor a usable folder.
        ManifestError, ScenarioError: when the recordings cannot be used, `traces` holds some, or nobody can think for
            so long.
    """
    if traces is not None:
        check_trace_folder(traces)
    check_thinking(thinking_s)
    check_player(policy)
    suite = clip_suite(clips, seed, held_out)
    player = load_player(policy, num_slots, seed, suite.learned)
    with tqdm(total=len(suite.seeds), unit="stream", desc=suite.name) as bar:
        played = player.play(suite.scenario, suite.seeds, num_slots, thinking_s, bar.update)
    if traces is not None:
        write_traces(traces, played)
    return evaluate_traces(played, seed=seed)
