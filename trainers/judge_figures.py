"""The curves of an evaluation's page as SVG: precision-recall, DET, and when cues were answered."""

from collections.abc import Mapping, Sequence
from io import StringIO
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from envs.curves import Units, as_played, curve
from envs.palette import FAINT, FONT, INK, RULE
from envs.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DET_TICKS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
_DET_ENDS = (0.005, 0.995)  # rates beyond are drawn at the edge: the normal deviate of 0 is infinite


def threshold_curves(streams: Mapping[str, Sequence[Units]]) -> str:
    """Return precision over recall and misses over false alarms, a line a policy; a mark is where it was played."""
    figure = _figure(11.0, 4.6)
    precision, det = figure.subplots(1, 2)
    for index, (policy, units) in enumerate(streams.items()):
        colour, points, played = _colour(index), curve(units), as_played(units)
        if points is not None:
            precision.step(points.recall, points.precision, where="pre", color=colour, linewidth=1.5)
            det.plot(_deviate(points.false_alarm_rate), _deviate(points.miss_rate), color=colour, linewidth=1.5)
        label = policy if points is not None else f"{policy} (no probabilities)"
        mark = {"color": colour, "marker": "o", "markersize": 6, "linestyle": "-" if points is not None else ""}
        precision.plot([], [], label=label, **mark)
        if played is not None:
            one = {**mark, "linestyle": ""}
            if played.precision is not None:
                precision.plot([played.recall], [played.precision], **one)
            det.plot(_deviate(np.array([played.false_alarm_rate])), _deviate(np.array([1 - played.recall])), **one)
    _frame(precision, "windows found (recall)", "precision")
    precision.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
    _frame(det, "cue-free stretches with a false alarm", "windows missed")
    ticks, ends = _deviate(np.array(_DET_TICKS)), _deviate(np.array(_DET_ENDS))
    names = [f"{100 * tick:g} %" for tick in _DET_TICKS]
    det.set_xticks(ticks, names)
    det.set_yticks(ticks, names)
    det.set(xlim=(ends[0] - 0.1, ends[1] + 0.1), ylim=(ends[0] - 0.1, ends[1] + 0.1))
    return _svg(figure)


def latency_curves(traces: Mapping[str, Sequence[Trace]]) -> str:
    """Return, for each policy, the share of all cues that were answered by so many seconds after enough was heard."""
    figure = _figure(11.0, 3.8)
    axes = figure.subplots()
    latencies = {
        policy: np.sort([r.start_s - t.cues[r.cue].ready_s for t in played for r in t.replies if r.cue is not None])
        for policy, played in traces.items()
    }
    every = np.concatenate(list(latencies.values()))
    ends = (min(every.min(initial=0.0), 0.0) - 0.2, max(every.max(initial=1.0), 1.0) + 0.2)
    for index, (policy, values) in enumerate(latencies.items()):
        cues = max(sum(len(trace.cues) for trace in traces[policy]), 1)
        x = np.concatenate([[ends[0]], values, [ends[1]]])
        y = np.concatenate([[0.0], np.arange(1, len(values) + 1), [float(len(values))]]) / cues
        axes.step(x, y, where="post", color=_colour(index), linewidth=1.5, label=f"{policy}, n = {len(values)}")
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
    _frame(axes, "seconds from when enough had been heard to the reply", "share of all cues answered by then")
    axes.set(xlim=ends, ylim=(-0.02, 1.05))
    return _svg(figure)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(), facecolor="white")


def _colour(index: int) -> tuple[float, float, float]:
    colours: Sequence[tuple[float, float, float]] = colormaps["tab10"].colors  # type: ignore[attr-defined]
    return colours[index % len(colours)]


def _deviate(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal deviates of rates: the scale of DET curves (Martin et al., 1997)."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(float(rate)) for rate in np.clip(rates, *_DET_ENDS)])


def _frame(axes: "Axes", across: str, up: str) -> None:
    axes.set_xlabel(across, color=INK, fontsize=FONT + 1)
    axes.set_ylabel(up, color=INK, fontsize=FONT + 1)
    axes.tick_params(labelsize=FONT, colors=FAINT, length=0)
    axes.grid(color=RULE, linewidth=0.8)
    axes.spines[:].set_visible(False)


def _svg(figure: Figure) -> str:
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "soundflow"}):
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=FONT + 1)
        document = StringIO()
        figure.savefig(document, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = document.getvalue()
    return svg[svg.index("<svg") :]
