"""The world benchmark measures what it says, and says what it could not measure."""

from pathlib import Path

import numpy as np
import pytest

from envs import benchmark
from envs.audio import read_audio
from envs.clock import CHUNK_SAMPLES
from envs.scenario import Scenario


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_PLANS": 2, "_TRIALS": 1, "_EPISODES": 160, "_WARM_EPISODES": 64}.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setenv("PATH", "")  # no uv, hence no Scaper, which would be built over the network


def test_every_number_is_there_and_scapers_absence_is_explained() -> None:
    numbers = benchmark.bench_world()
    measured = {name: value for name, value in numbers.items() if isinstance(value, float)}
    assert measured.keys() == {
        "compose_realtime_factor",
        "vector_steps_per_s",
        "vector_waits_per_s",
        "single_steps_per_s",
        "memory_growth_mib",
    }
    assert all(np.isfinite(value) for value in measured.values())
    assert numbers["scaper_ratio"] is None
    assert "uv" in str(numbers["scaper_skipped"])


def test_memory_that_grows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred kept streams of 24 s are 150 MB, also where more was freed before and not given back."""
    np.ones(3 << 20)  # glibc maps only what is larger than what was freed, up to 32 MiB: from here on, no MiB is
    mebibytes = [np.ones(1 << 17) for _ in range(400)]
    del mebibytes[:-1]  # and what lies under one that is in use stays
    plans, kept, compose = benchmark.mixed_plans(), list[Scenario](), benchmark.compose

    def keep(*arguments: object) -> Scenario:
        kept.append(compose(*arguments))  # type: ignore[arg-type]
        return kept[-1]

    monkeypatch.setattr(benchmark, "compose", keep)
    assert benchmark._memory_growth(plans) > 50


def test_scaper_gets_the_same_clips(tmp_path: Path) -> None:
    plans = benchmark.mixed_plans()
    benchmark._write_clips(tmp_path, plans)
    written = sorted(path.parent.name for path in tmp_path.glob("foreground/*/*.wav"))
    assert written == sorted(clip.label for plan in plans for clip in plan.foreground)
    bed = read_audio(tmp_path / "background" / "bed" / "bed.wav")
    assert len(bed) == plans[0].num_chunks * CHUNK_SAMPLES
