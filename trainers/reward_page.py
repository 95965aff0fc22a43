"""The page of a comparison of rewards: rankings, components, curves and warnings in one file that opens offline."""

import html
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from envs.clock import CHUNK_S
from envs.files import write_text
from envs.metrics import Metric
from envs.palette import FAINT, FONT, INK, RULE
from envs.rewards.bill import Bill
from envs.rewards.comparison import RewardReport, Standing
from trainers.report import html_page, metric_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INTRO = (
    "The same streams, played once by each policy, and scored under every reward. A mean is over streams, its interval "
    "a 95 % bootstrap over them; a component's mean is already weighted, and the means add up to the reward's."
)
_PANELS = 3  # in a row


def write_reward_page(
    path: Path, reports: Sequence[RewardReport], f1: Mapping[str, Metric], bills: Mapping[str, Bill]
) -> None:
    """Write the page aside, then move it into place whole: one file, no links."""
    parts = [f"<h1>Rewards compared</h1><p class=note>{_INTRO}</p>"]
    for report in reports:
        parts += [f"<h2>{html.escape(report.name)}</h2>", _findings(report), _ranking(report, f1)]
        parts.append(f"<div class=card>{_curves(report.standings)}</div>")
    if bills:
        rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(bill))}</dd>" for name, bill in bills.items())
        parts.append(f"<h2>What scoring cost</h2><div class=card><dl>{rows}</dl></div>")
    write_text(path, html_page("Rewards compared", parts))


def _findings(report: RewardReport) -> str:
    return "".join(f"<p class=bad>{html.escape(finding.message)}</p>" for finding in report.findings)


def _ranking(report: RewardReport, f1: Mapping[str, Metric]) -> str:
    """Return a table: a row for each policy, the best first."""
    standings = report.standings
    names = list(standings[0].components)
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in ("mean reward", "trigger F1", *names))
    ends = [end for s in standings for end in (s.reward.value, s.reward.low, s.reward.high) if end is not None]
    scale = (min(0.0, *ends), max(0.0, *ends))
    rows = "".join(
        f"<tr><th>{place}. {html.escape(s.policy)}</th>{metric_cell(s.reward, scale)}"
        f"{metric_cell(f1[s.policy], (0.0, 1.0))}"
        + "".join(f"<td>{s.components[name]:.3f}</td>" for name in names)
        + "</tr>"
        for place, s in enumerate(standings, start=1)
    )
    return f"<div class=card><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _curves(standings: Sequence[Standing]) -> str:
    """Return an SVG: what each component has brought up to each second, a panel for each policy."""
    columns = min(_PANELS, len(standings))
    rows = -(-len(standings) // columns)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "soundflow"}):
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=(4.2 * columns, 2.7 * rows + 0.5), layout=layout, facecolor="white")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for axes, standing in zip(panels, standings, strict=False):
            _draw(axes, standing)
        for axes in panels[len(standings) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=FONT)
        document = StringIO()
        figure.savefig(document, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = document.getvalue()
    return svg[svg.index("<svg") :]


def _draw(axes: "Axes", standing: Standing) -> None:
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    curves = standing.curves
    seconds = CHUNK_S * np.arange(len(next(iter(curves.values()))))
    axes.axhline(0, color=RULE, linewidth=1)
    for index, (name, curve) in enumerate(curves.items()):
        style = "-" if index < len(colours) else "--"
        axes.plot(seconds, curve, style, color=colours[index % len(colours)], linewidth=1.2, label=name)
    axes.plot(seconds, np.sum(list(curves.values()), axis=0), color=INK, linewidth=2.0, label="reward")
    axes.set_title(standing.policy, fontsize=FONT + 2, color=INK, parse_math=False)
    axes.set_xlabel("seconds", color=FAINT, fontsize=FONT)
    axes.tick_params(labelsize=FONT, colors=FAINT, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
