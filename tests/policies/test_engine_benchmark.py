"""The engine's benchmark measures what it says: its rivals compute what the engine does."""

import json

import numpy as np
import pytest
import torch

from policies.engine import Engine, Sampling, benchmark
from trainers.cli import main


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        "_SESSIONS": 3,
        "_WARM_CHUNKS": 2,
        "_BATCH_CHUNKS": 2,
        "_NAIVE_CHUNKS": 6,
        "_TRIALS": 1,
        "_MINUTE": 4,
        "_HOUR_MINUTES": 12,
        "_LIVE_SESSIONS": (2, 3),
        "_LIVE_S": 0.9,
        "_LIVE_WARM_S": 0.0,
        "_FIRST_TOKENS": 2,
    }
    for name, value in sizes.items():
        monkeypatch.setattr(benchmark, name, value)


def test_the_naive_loop_hears_what_the_engine_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "RESPONSE_RATE", 0.5)
    model = benchmark.bench_model()
    torch.nn.init.normal_(model.decision_head.weight)
    monkeypatch.setattr(benchmark, "RESPONSE_RATE", 0.0)  # the loop never responds, and the engine must not
    naive = benchmark._hear_naively(model, 3, by_generate=False)
    engine = Engine(model)
    session = engine.open(Sampling(threshold=2.0))
    own = []
    for chunk in benchmark._noises(6, 3):
        engine.push(session, chunk)
        own += [event.probability for event in engine.step()]
    np.testing.assert_allclose(naive, own, atol=1e-4)
    assert np.ptp(own) > 1e-5


def test_every_number_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "engine", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert set(numbers) == {
        "threads",
        "hour_slope",
        "frame_slope",
        "hour_memory_growth",
        "hour_growth_mib",
        "anew_frame_slope",
        "chunks_per_s",
        "naive_chunks_per_s",
        "naive_ratio",
        "forward_chunks_per_s",
        "forward_ratio",
        "live_sessions",
        "live_p99_ms",
        "live_stalls",
        "first_token_ms",
    }
    assert numbers["naive_ratio"] == pytest.approx(numbers["chunks_per_s"] / numbers["naive_chunks_per_s"], rel=1e-2)


def test_sessions_that_come_too_late_are_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_serve", lambda _, count: (0.1, 0.0) if count == 2 else (0.1, 0.01))
    assert benchmark._live(benchmark.bench_model()) == {"live_sessions": 2, "live_p99_ms": 100.0, "live_stalls": 0.0}
    monkeypatch.setattr(benchmark, "_serve", lambda *_: (0.5, 0.01))
    assert benchmark._live(benchmark.bench_model())["live_sessions"] == 0
