"""The report: one HTML file with tables, curves and episodes to listen to; it opens offline."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envs.files import write_text
from envs.metrics import MEANINGS, Metric, lower_is_better
from trainers.episode_view import SCRIPT, STYLE, EpisodeView, episode_html
from trainers.results import Results

POLICY_ORDER = ("silent", "always", "random", "energy", "supervised", "ppo")
MAX_BYTES = 10_000_000  # of the whole file; episodes that would not fit are named instead of shown

_INTRO = (
    "The agent hears a stream in chunks of 0.4 seconds and decides after each: stay silent, or speak. A cue is a sound "
    "that deserves a reply; it has to be answered after enough of it was heard and before its deadline. Every other "
    "reply is a false alarm. All streams here have seeds, or recordings, that no policy was trained on."
)
_TABLE_NOTE = (
    "Value, 95 % bootstrap interval over whole streams, and the count it averages over. The best value of a "
    "row is marked; where low is good, only policies with at least half of the best recall compete (the takeover "
    "rate of the task, or what else says how often a policy answers): a silent agent is not fast."
)
_ANSWERING = ("trigger_recall", "respond_accuracy", "trigger_f1")  # the first of them that a table has
_OF_WHAT_IS_SAID = frozenset(  # where low is good, and who says little is good for nothing
    "latency_p50_s latency_p95_s latency_mean_s early_rate repetition substitution_rate insertion_rate".split()
)
_STYLE = """
:root{color-scheme:light dark;
--ink:#1d2733;--soft:#5d6c7b;--line:#e1e6ec;--paper:#fbfcfd;--card:#fff;--accent:#2a6f97;
--best:#e3f1ea;--whisker:#1d2733;--bad:#b23a48}
@media(prefers-color-scheme:dark){:root{
--ink:#e4e9ee;--soft:#93a1b0;--line:#2b3640;--paper:#11161c;--card:#182027;
--accent:#6fb1d6;--best:#1c3a2b;--whisker:#e4e9ee;--bad:#f0838f}}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1200px;
margin:2.5rem auto 5rem;padding:0 1.5rem}
h1{font-weight:650;letter-spacing:-.01em}
h2{margin:2.8rem 0 .4rem;font-weight:600}
p.note{color:var(--soft);max-width:75ch}
.card{background:var(--card);
border:1px solid var(--line);border-radius:10px;padding:.6rem 1rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{
padding:.5rem .6rem;border-bottom:1px solid var(--line);text-align:right;
white-space:nowrap;vertical-align:top}
tr:last-child td,tr:last-child th{border-bottom:0}thead th{color:var(--soft);font-weight:600}
tbody th,.text td,.text th{text-align:left;font-weight:500}tbody th small{color:var(--soft);font-weight:400}
.text td:last-child{white-space:normal;width:60%}td small{display:block;color:var(--soft);font-size:.74rem}
td.best{background:var(--best);font-weight:650}td.best small,td.worse small{font-weight:400}
td.worse{color:var(--bad);font-weight:650}.bad{color:var(--bad)}
svg.bar{display:block;width:100%;min-width:80px;height:6px;margin:.2rem 0}
.bar rect{fill:var(--accent);opacity:.75}.bar line{stroke:var(--whisker);stroke-width:2;opacity:.6}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:1rem}
.curves figure{margin:0}.curves figcaption{font-weight:600}.curves svg{width:100%;height:auto;display:block}
.curves polyline{fill:none;stroke:var(--accent);stroke-width:1.6;stroke-linejoin:round}
.curves line{stroke:var(--line)}.curves text{fill:var(--soft);font-size:11px}
summary{color:var(--accent);cursor:pointer}dt{font-weight:600}dd{color:var(--soft);margin:0 0 .4rem 1.2rem}
pre{margin:.3rem 0;font-size:.84rem;color:var(--soft)}
"""


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows.

    Attributes:
        title: Of the page.
        seconds: Wall-clock seconds of each phase; a phase called "total" is shown last.
        tables: Suite, then policy, then metric.
        curves: Points (step, value) of each curve.
        episodes: Shown in order, as many as fit into `MAX_BYTES`.
        config: The configuration's YAML.
    """

    title: str
    seconds: dict[str, float]
    tables: Results
    curves: dict[str, list[tuple[int, float]]]
    episodes: list[EpisodeView]
    config: str


def write_report(path: Path, data: ReportData) -> None:
    """Write the report aside, then move it into place whole: one file, no links, below `MAX_BYTES`."""
    before = [f"<h1>{html.escape(data.title)}</h1><p class=note>{_INTRO}</p>", meanings()]
    before += [metrics_table(suite, table) for suite, table in data.tables.items()]
    before.append(_curves(data.curves))
    after = [_seconds(data.seconds)]
    after.append(f"<h2>Configuration</h2><div class=card><pre>{html.escape(data.config)}</pre></div>")
    room = MAX_BYTES - len(html_page(data.title, before + after).encode())
    document = html_page(data.title, before + _episodes(data.episodes, room) + after)
    write_text(path, document)


def write_episode(path: Path, episode: EpisodeView) -> None:
    """Write a page of one episode: one file, no links."""
    write_text(path, html_page(episode.name, [episode_html(episode)]))


def html_page(title: str, parts: Sequence[str]) -> str:
    """Return a page of these parts, with the style and the scripts of a report in it."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + f"\n{SCRIPT}\n</body></html>\n"
    )


def _name(identifier: str) -> str:
    return html.escape(identifier.replace("_", " "))


def meanings() -> str:
    """Return what each metric means, folded."""
    rows = "".join(f"<dt>{_name(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in MEANINGS.items())
    return f"<details><summary>What the rows mean</summary><dl>{rows}</dl></details>"


def metrics_table(suite: str, table: Mapping[str, Mapping[str, Metric]], first: Sequence[str] = POLICY_ORDER) -> str:
    """Return one suite's table: a row for each metric, a column for each policy, of those that are there `first`."""
    policies = [p for p in first if p in table] + [p for p in table if p not in first]
    metrics = list(dict.fromkeys(name for p in policies for name in table[p]))
    head = "".join(f"<th>{_name(p)}</th>" for p in policies)
    rows = "".join(_row(name, policies, table) for name in metrics)
    return (
        f"<h2>{_name(suite)}</h2><p class=note>{_TABLE_NOTE}</p><div class=card><table>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(name: str, policies: Sequence[str], table: Mapping[str, Mapping[str, Metric]]) -> str:
    known = {p: m for p in policies if (m := table[p].get(name)) is not None and m.value is not None}
    best = _best(name, {p: m.value for p, m in known.items() if m.value is not None}, table)
    ends = [x for m in known.values() for x in (m.value, m.low, m.high) if x is not None]
    scale = (min(0.0, *ends), max(0.0, *ends)) if ends else (0.0, 0.0)
    cells = "".join(metric_cell(known.get(p), scale, "best" if p in best else "") for p in policies)
    return f"<tr>{metric_head(name)}{cells}</tr>"


def metric_head(name: str) -> str:
    """Return the head of a metric's row: its name, and which way is good."""
    direction = "↓ low is good" if lower_is_better(name) else "↑"
    return f"<th>{_name(name)} <small>{direction}</small></th>"


def _best(name: str, values: Mapping[str, float], table: Mapping[str, Mapping[str, Metric]]) -> set[str]:
    """Return the policies whose value is the row's best; none where there is no contest."""
    sign = -1 if lower_is_better(name) else 1
    compete = contenders(name, table)
    values = {p: sign * v for p, v in values.items() if p in compete}
    if len(set(values.values())) < 2:
        return set()
    return {p for p, v in values.items() if v == max(values.values())}


def contenders(name: str, table: Mapping[str, Mapping[str, Metric]]) -> set[str]:
    """Return the policies whose value of a metric may count as the better one: one that seldom speaks is not fast.

    Where low is good, they answer at least half as often as the one that answers most; where the table does not say how
    often they answer, and the metric is one of what is said, there is none.
    """
    if not lower_is_better(name):
        return set(table)
    kind, _, part = name.partition(": ")
    takeover = f"takeover_rate: {part}"
    own = () if kind == "takeover_rate" or lower_is_better(takeover) else (takeover,)
    for rate in (*own, *_ANSWERING):
        answering = {p: m.value or 0.0 for p in table if (m := table[p].get(rate)) is not None}
        if answering:
            enough = max(answering.values()) / 2
            return {p for p, share in answering.items() if share >= enough > 0}
    return set() if kind in _OF_WHAT_IS_SAID else set(table)


def metric_cell(metric: Metric | None, scale: tuple[float, float], mark: Literal["best", "worse", ""] = "") -> str:
    """Return a table's cell: value, bar on the common scale, interval and count."""
    if metric is None or metric.value is None:
        return "<td>none</td>"
    value = metric.value
    low, high = (
        metric.low if metric.low is not None else value,
        metric.high if metric.high is not None else value,
    )
    return (
        f"<td{f' class={mark}' if mark else ''}>{value:.3f}{_bar(value, low, high, scale)}"
        f"<small>{low:.3f} to {high:.3f}</small><small>n = {metric.count}</small></td>"
    )


def _bar(value: float, low: float, high: float, scale: tuple[float, float]) -> str:
    """Return a bar from zero to the value with its interval as a whisker, on the row's common scale."""
    width = scale[1] - scale[0]
    if width <= 0:
        return ""
    x = {key: 100 * (v - scale[0]) / width for key, v in (("zero", 0.0), ("v", value), ("l", low), ("h", high))}
    left, length = min(x["zero"], x["v"]), abs(x["v"] - x["zero"])
    return (
        '<svg class=bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect x="{left:.1f}" width="{length:.1f}" height="6"/>'
        f'<line x1="{x["l"]:.1f}" x2="{x["h"]:.1f}" y1="3" y2="3"/></svg>'
    )


def _curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    drawn = [_curve(name, finite) for name, p in curves.items() if (finite := [q for q in p if math.isfinite(q[1])])]
    return f"<h2>Learning</h2><div class=curves>{''.join(drawn)}</div>" if drawn else ""


def _curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    """Return a curve as SVG in the page's own colours: 560 x 200 with the axes' ends labelled."""
    steps, values = [x for x, _ in points], [y for _, y in points]
    left, right, top, bottom = 58.0, 550.0, 10.0, 172.0
    across, up = (max(steps) - min(steps)) or 1, (max(values) - min(values)) or 1.0
    pixels = [
        (left + (right - left) * (x - min(steps)) / across, bottom - (bottom - top) * (y - min(values)) / up)
        for x, y in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    return (
        f"<figure class=card><figcaption>{_name(name)}</figcaption><svg viewBox='0 0 560 200'>"
        f"<line x1='{left}' x2='{right}' y1='{bottom}' y2='{bottom}'/>"
        f"<line x1='{left}' x2='{right}' y1='{top}' y2='{top}'/>"
        f"<text x='{left - 6}' y='{top + 4}' text-anchor='end'>{max(values):.3g}</text>"
        f"<text x='{left - 6}' y='{bottom + 4}' text-anchor='end'>{min(values):.3g}</text>"
        f"<text x='{left}' y='{bottom + 18}'>step {min(steps)}</text>"
        f"<text x='{right}' y='{bottom + 18}' text-anchor='end'>"
        f"step {max(steps)}, last value {values[-1]:.4g}</text>"
        f"<polyline points='{line}'/></svg></figure>"
    )


def _episodes(episodes: Sequence[EpisodeView], room: int) -> list[str]:
    """Return the episodes, at most `room` bytes of them."""
    parts = []
    for episode in episodes:
        part = episode_html(episode)
        if len(part.encode()) + 1 > room:
            part = f"<p class=note>{html.escape(episode.name)}: left out, the report would be too large.</p>"
        parts.append(part)
        room -= len(part.encode()) + 1
    return parts


def _seconds(seconds: Mapping[str, float]) -> str:
    if not seconds:
        return ""
    longest = max(seconds.values())
    order = sorted(seconds, key=lambda phase: phase == "total")
    rows = "".join(
        f"<tr><th>{_name(p)}</th><td>{seconds[p]:.1f}</td><td style='width:60%'>"
        f"{_bar(seconds[p], seconds[p], seconds[p], (0.0, longest))}</td></tr>"
        for p in order
    )
    return f"<h2>Seconds</h2><div class=card><table><tbody>{rows}</tbody></table></div>"
