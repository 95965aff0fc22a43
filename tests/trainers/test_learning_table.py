import pytest

from envs.metrics import Metric
from trainers.learning_bench import Learned, SeedNumbers
from trainers.learning_table import LearningLog

NAMES = (
    "trigger_f1",
    "balanced_accuracy",
    "false_alarms_per_hour",
    "reply_quality",
    "repetition",
    "latency_p50_s",
    "mean_reward",
)


def numbers(seed, supervised, ppo, latency=1.0):
    def metrics(value):
        table = {name: Metric(value, 9, value - 0.1, value + 0.1) for name in NAMES}
        return {**table, "latency_p50_s": Metric(latency, 9 if latency else 0, None, None)}

    return SeedNumbers(seed, "ppo.objective=split", suites={"mixed": Learned(metrics(supervised), metrics(ppo), {})})


def test_a_log_is_one_table_of_two_rows_a_seed(tmp_path):
    path = tmp_path / "experiments.md"
    path.write_text("# Experiments\n")
    log = LearningLog(path, "soundflow bench train --seeds 2")
    log.append(numbers(0, 0.5, 0.5))
    log.append(numbers(1, 0.5, 0.75, latency=None))
    text = path.read_text()
    assert text.startswith("# Experiments\n\n## `soundflow bench train --seeds 2` (")
    assert text.count("## ") == 1
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in table if "---" not in line}) == 1
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert [row[:4] for row in rows] == [
        ["ppo.objective=split", seed, "mixed", policy] for seed in "01" for policy in ("supervised", "ppo")
    ]
    after = dict(zip(head, rows[3], strict=True))
    assert after["F1"] == "0.750 [0.650, 0.850]"
    assert after["latency p50"] == "none"
    assert after["goals missed"] == "false_alarms_halved, repetition_no_higher"
    assert dict(zip(head, rows[1], strict=True))["goals missed"] == "reward_apart, false_alarms_halved"
    assert dict(zip(head, rows[1], strict=True))["latency p50"] == "1.00 s"


def test_a_log_that_cannot_be_written_is_known_at_once(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        LearningLog(tmp_path / "nowhere" / "experiments.md", "soundflow bench train")
