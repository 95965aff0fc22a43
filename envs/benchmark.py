"""How fast the world is: composing streams, and stepping environments over streams that are there already."""

import itertools
import time
from collections.abc import Callable

import numpy as np

from envs.abilities import AbilityScenarios, World
from envs.composition import compose
from envs.episode import RESPOND, TOKENS, WAIT
from envs.foley import Foley
from envs.planning import ScenePlan
from envs.scenario import Scenario
from envs.speech.espeak import Espeak
from envs.stream_env import StreamingAudioEnv
from envs.vector_env import StreamingAudioVectorEnv

_PLANS = 32
_STREAM_CHUNKS = (60, 60)  # 24 s
_ENVS = 64
_REPLY_RATE, _REPLY_STEPS = 1 / 30, 3  # how an agent acts: one reply of three chunks in thirty decisions
_TRIALS = 5


def bench_world() -> dict[str, float]:
    """Measure the world in this process; medians of several trials.

    Returns:
        `compose_realtime_factor`: seconds of mixed stream composed in one second, clips already decoded.
        `vector_steps_per_s`: chunk-steps a second of 64 environments in a batch, over rendered scenarios, by an agent
        that replies now and then; `vector_waits_per_s`: by one that never does.
        `single_steps_per_s`: steps a second of one environment.
    """
    plans = mixed_plans()
    scenarios = [compose(plan, seed, "Mixed") for seed, plan in enumerate(plans)]
    stream_s = sum(scenario.duration_s for scenario in scenarios)
    return {
        "compose_realtime_factor": stream_s / median_s(lambda: [compose(p, s, "Mixed") for s, p in enumerate(plans)]),
        "vector_steps_per_s": _vector_rate(scenarios, _REPLY_RATE),
        "vector_waits_per_s": _vector_rate(scenarios, 0.0),
        "single_steps_per_s": _single_rate(scenarios),
    }


def mixed_plans() -> list[ScenePlan]:
    """Plan mixed scenes of 24 s, their clips decoded."""
    scenarios = AbilityScenarios("Mixed", World(Foley(), Espeak()), chunks=_STREAM_CHUNKS)
    return [scenarios.plan(seed) for seed in range(_PLANS)]


def median_s(work: Callable[[], object]) -> float:
    """Return the median time of `work` over several trials, in seconds, after one that warms up."""
    work()
    times = []
    for _ in range(_TRIALS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _vector_rate(scenarios: list[Scenario], reply_rate: float, steps: int = 300) -> float:
    env = StreamingAudioVectorEnv(_ENVS, lambda seed: scenarios[seed % len(scenarios)])
    rng = np.random.default_rng(0)
    kinds = np.full((steps, _ENVS), WAIT)
    for step, slot in itertools.product(range(steps), range(_ENVS)):
        if kinds[step, slot] == WAIT and rng.random() < reply_rate:
            kinds[step, slot] = RESPOND
            kinds[step + 1 : step + _REPLY_STEPS, slot] = TOKENS
    tokens = np.full((_ENVS, env.tokens_per_chunk), ord("a"))

    def play() -> None:
        env.reset(seed=0)
        for row in kinds:
            env.step({"kind": row, "tokens": tokens})

    return steps * _ENVS / median_s(play)


def _single_rate(scenarios: list[Scenario], steps: int = 2000) -> float:
    env = StreamingAudioEnv(lambda seed: scenarios[seed % len(scenarios)])
    action = {"kind": WAIT, "tokens": np.full(env.tokens_per_chunk, ord("a"))}

    def play() -> None:
        env.reset(seed=0)
        for _ in range(steps):
            if env.step(action)[2]:
                env.reset()

    return steps / median_s(play)
