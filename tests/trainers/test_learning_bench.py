"""The benchmark of learning plays, trains, reinforces and compares for real, at toy size."""

import json
from pathlib import Path

import pytest

from trainers import learning_bench
from trainers.cli import main

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


def test_bench_train_measures_rollouts_and_what_ppo_adds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both policies are judged on the same streams, of sounds and of all abilities, and the difference is theirs."""
    monkeypatch.setattr(learning_bench, "_EPISODES", 4)
    monkeypatch.setattr(learning_bench, "_GPU_EPISODES", 4)
    monkeypatch.setattr(learning_bench, "_ALONE_EPISODES", 1)
    assert main(["bench", "train", "--config", str(SMOKE), "--seeds", "1", "--json", "scenes.held_out_count=2"]) == 0
    numbers = json.loads(capsys.readouterr().out)  # progress goes to stderr
    fast, slow = numbers["rollout_chunks_per_s"], numbers["alone_chunks_per_s"]
    assert numbers["rollout_ratio"] == pytest.approx(fast / slow, rel=1e-2)
    (seed,) = numbers["seeds"]
    assert seed["seed"] == 0
    assert 0.0 < seed["rollout_share"] < 1.0
    assert {"reinforce (PPO)", "judge ppo on mixed"} <= seed["seconds"].keys()
    for suite in ("held_out", "mixed"):
        before, after, difference = (seed[suite][who]["mean_reward"] for who in ("supervised", "ppo", "difference"))
        assert before["count"] == after["count"] == 2
        assert difference["value"] == pytest.approx(after["value"] - before["value"])
        f1 = [seed[suite][who]["trigger_f1"]["value"] or 0.0 for who in ("supervised", "ppo")]
        assert seed[suite]["reached"]["f1_no_lower"] == (f1[1] >= f1[0])
