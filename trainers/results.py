"""What a run has found out about its policies: metrics by suite, by policy and by name."""

from collections.abc import Mapping
from typing import Any

from envs.metrics import Metric, metrics_json

Results = dict[str, dict[str, dict[str, Metric]]]


def results_json(results: Mapping[str, Mapping[str, Mapping[str, Metric]]]) -> dict[str, dict[str, Any]]:
    """Return results as plain JSON types."""
    return {suite: {who: metrics_json(own) for who, own in table.items()} for suite, table in results.items()}
