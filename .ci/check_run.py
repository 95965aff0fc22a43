"""Check what a quickstart with clips left behind: `python .ci/check_run.py RUN`."""

import json
import math
import sys
from pathlib import Path

POLICIES = {"silent", "always", "random", "energy", "supervised", "ppo"}
METRICS = {
    "trigger_precision",
    "trigger_recall",
    "trigger_f1",
    "false_alarms_per_hour",
    "latency_p50_s",
    "early_rate",
    "reply_quality",
    "mean_reward",
}
FILES = (
    "report.html",
    "policy/model.safetensors",
    "policy/README.md",
    "supervised/model.safetensors",
    "supervised/README.md",
    "traces_held_out.jsonl",
)


def check_run(run: Path) -> None:
    """Raise where a file is missing, or a metric that others read."""
    for name in FILES:
        assert (run / name).stat().st_size > 0, f"{name} is empty"
    assert list(run.glob("logs/**/events.out.tfevents.*")), "no TensorBoard events"
    assert not list(run.glob("**/*.part")) + list(run.glob("**/.*")), "something half-written was left"
    document = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    for suite in ("held_out", "real_held_out"):
        assert set(document[suite]) == POLICIES, suite
        for policy, metrics in document[suite].items():
            assert set(metrics) >= METRICS, f"{suite}, {policy}"
            for name, metric in metrics.items():
                assert set(metric) == {"value", "count", "low", "high"}, f"{suite}, {policy}, {name}"
        assert document[suite]["silent"]["trigger_recall"]["value"] == 0.0
        recall = document[suite]["always"]["trigger_recall"]
        assert recall["value"] > 0.5 or recall["count"] == 0, f"{suite}: one that always speaks answers nothing"
    seconds = document["seconds"]
    assert math.isclose(seconds["total"], sum(v for k, v in seconds.items() if k != "total"), rel_tol=0.2, abs_tol=5)


if __name__ == "__main__":
    check_run(Path(sys.argv[1]))
