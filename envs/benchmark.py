"""How fast the world is: composing streams, and stepping environments over streams that are there already."""

import ctypes
import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from envs.abilities import AbilityScenarios, World
from envs.audio import write_wav
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.composition import compose, prepare
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
_EPISODES, _WARM_EPISODES = 10_000, 1_000
_SCAPER = ("scaper==1.6.5", "numpy<2", "pandas<3")  # it does not run with newer ones
_SCAPER_SCENES = 10


def bench_world() -> dict[str, float | str | None]:
    """Measure the world in this process, on one core; medians of several trials.

    Returns:
        `compose_realtime_factor`: seconds of mixed stream composed in one second, clips already decoded.
        `scaper_realtime_factor`: the same of Scaper, mixing six of the same clips over one background.
        `scaper_ratio`: the first by the second; both None, and `scaper_skipped` says why, where Scaper cannot be run.
        `vector_steps_per_s`: chunk-steps a second of 64 environments in a batch, over rendered scenarios, by an agent
        that replies now and then; `vector_waits_per_s`: by one that never does.
        `single_steps_per_s`: steps a second of one environment.
        `memory_growth_mib`: by how much the process grew from episode 1,000 to episode 10,000, each composed anew.
    """
    with _one_core():
        plans = mixed_plans()
        scenarios = [compose(plan, seed, "Mixed") for seed, plan in enumerate(plans)]
        stream_s = sum(scenario.duration_s for scenario in scenarios)
        factor = stream_s / median_s(lambda: [compose(p, s, "Mixed") for s, p in enumerate(plans)])
        scaper, skipped = _scaper_factor(plans)
        return {
            "compose_realtime_factor": factor,
            "scaper_realtime_factor": scaper,
            "scaper_ratio": None if scaper is None else factor / scaper,
            **({} if skipped is None else {"scaper_skipped": skipped}),
            "vector_steps_per_s": _vector_rate(scenarios, _REPLY_RATE),
            "vector_waits_per_s": _vector_rate(scenarios, 0.0),
            "single_steps_per_s": _single_rate(scenarios),
            "memory_growth_mib": _memory_growth(plans),
        }


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process and those it starts on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):  # not on macOS or Windows
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


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


def _memory_growth(plans: list[ScenePlan]) -> float:
    """Play episodes that are composed when they begin; return the growth of the resident memory, in MiB."""
    env = StreamingAudioVectorEnv(_ENVS, lambda seed: compose(plans[seed % len(plans)], seed, "Mixed"))
    action = {"kind": np.full(_ENVS, WAIT), "tokens": np.full((_ENVS, env.tokens_per_chunk), ord("a"))}
    env.reset(seed=0)
    episodes, before = 0, 0.0
    while episodes < _EPISODES:
        ended = int(env.step(action)[2].sum())
        if episodes < _WARM_EPISODES <= episodes + ended:
            before = resident_mib()
        episodes += ended
    return resident_mib() - before


def resident_mib() -> float:
    """Return the memory that this process holds, in MiB, garbage collected and free memory given back.

    glibc keeps what is freed and hands it out again: a process that has freed 400 MB can then leak as much, and
    its resident memory stands still.
    """
    gc.collect()
    if os.name == "posix" and hasattr(c_library := ctypes.CDLL(None), "malloc_trim"):  # glibc's alone
        c_library.malloc_trim(0)
    held = process_mib("self")
    if held is None:  # the most there ever was, which cannot fall
        import resource  # noqa: PLC0415 - not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    return held


def process_mib(pid: int | Literal["self"]) -> float | None:
    """Return the memory that a process holds, in MiB; None where the system is no Linux, which says it of others."""
    status = Path(f"/proc/{pid}/statm")
    if not status.exists():
        return None
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _scaper_factor(plans: list[ScenePlan]) -> tuple[float | None, str | None]:
    """Run Scaper over the plans' clips in an environment of its own; return its factor, or why there is none."""
    uv = shutil.which("uv")
    if uv is None:
        return None, "Scaper needs an environment of its own, and uv to build it: python3 -m pip install uv"
    with tempfile.TemporaryDirectory() as work:
        _write_clips(Path(work), plans)
        wanted = [word for package in _SCAPER for word in ("--with", package)]
        script = [str(Path(__file__).with_name("scaper_script.py")), work]
        command = [uv, "run", "--no-project", "--isolated", "--python", sys.executable, *wanted, "python", *script]
        seconds = plans[0].num_chunks * CHUNK_S
        done = subprocess.run(
            [*command, str(seconds), str(_SCAPER_SCENES)], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1].strip()
        return None, f"Scaper cannot be built or run here (it needs a compiler, and libsox-dev on Debian): {last}"
    return float(done.stdout.split()[-1]), None


def _write_clips(folder: Path, plans: list[ScenePlan]) -> None:
    """Write the plans' foreground clips and one background as Scaper expects them."""
    for number, clip in enumerate(itertools.chain.from_iterable(plan.foreground for plan in plans)):
        place = folder / "foreground" / clip.label
        place.mkdir(parents=True, exist_ok=True)
        write_wav(place / f"{number}.wav", prepare(clip, 0.05))
    bed = plans[0].whole_scene[0].audio
    (folder / "background" / "bed").mkdir(parents=True)
    write_wav(folder / "background" / "bed" / "bed.wav", np.resize(bed, plans[0].num_chunks * CHUNK_SAMPLES))
