"""Metrics as a table of text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.metrics import Metric


def metric_table(metrics: "dict[str, Metric]") -> str:
    """Return metrics as lines: name, value, interval and count."""
    width = max(24, *map(len, metrics))
    lines = [f"{'metric':{width}s} {'value':>9s}   {'95 % interval':>19s}   {'count':>6s}"]
    for name, m in metrics.items():
        if m.value is None:
            lines.append(f"{name:{width}s} {'none':>9s}")
        else:
            lines.append(f"{name:{width}s} {m.value:9.3f}   {m.low:8.3f} to {m.high:7.3f}   {m.count:6d}")
    return "\n".join(lines)
