"""The page of an evaluation: numbers, curves, sounds and moments of every policy in one file that opens offline."""

import html
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from envs.abilities import ABILITIES
from envs.clock import CHUNK_S
from envs.curves import units
from envs.excerpt import excerpt
from envs.files import write_text
from envs.metrics import Metric, lower_is_better, share_metric
from envs.outcomes import FAILURE_KINDS, Failure, Outcome, outcomes, worst_failures
from envs.sound_classes import SOUND_CLASSES
from envs.trace import Trace
from trainers.episode_view import EpisodeView, player_html
from trainers.judge import Judged, Question
from trainers.judge_figures import latency_curves, threshold_curves
from trainers.report import MAX_BYTES, contenders, html_page, meanings, metric_cell, metric_head, metrics_table

SHOWN = 2  # failures of each kind and policy
_BEFORE_S, _AFTER_S = 4.0, 5.0  # of a moment that is shown
_MOST_SOUNDS = 80  # rows of the confusion table
_OTHER = "other sounds"
_CURVE_NOTE = (
    "The unit is an event, not a chunk: a cue's window, from its onset to its deadline, and a cue-free stretch, "
    "which is the time between two windows. Each has as its score the highest P(response) of the decisions in it. "
    "At a threshold, a window at or above it is found, and a stretch at or above it is a false alarm; a mark is the "
    "share of units in which a reply really began. A sweep over stored probabilities says how well they part what "
    "deserves a reply from what does not. It does not say what a policy would have done at another threshold: after "
    "a reply its probabilities are those of one that has spoken, and in the middle of a reply it decides nothing. A "
    "window without a decision was talked over and counts as missed at every threshold; a stretch without one had "
    "no chance and is left out. Two false alarms in one stretch count once here, and twice in the table above. A "
    "policy without probabilities has its mark alone."
)
_LATENCY_NOTE = (
    "A line ends at the policy's recall, so that one that seldom speaks does not look fast. Left of 0 it answered "
    "before enough had been heard."
)
_CATEGORY_NOTE = "Of the sounds in the foreground, those treated as they deserve: answered, or left alone."
_ABILITY_NOTE = "Of the cues of each ability, those answered before their deadline."
_CONFUSION_NOTE = (
    "For each class of sound how often it was answered and how often ignored; the wrong number is marked. A sound "
    "that deserves silence counts as answered when a reply that answers nothing fell between its onset and two "
    "seconds after its end."
)
_PAIR_NOTE = (
    "The first policy minus the second, on the same streams, with a paired bootstrap over them. Where the interval "
    "leaves 0 out, the difference is marked: on green the first is better, in red it is worse. A lower number of one "
    "that seldom answers is no better, and is not marked. Nothing here corrects for how many differences are looked at."
)
Table = dict[str, dict[str, Metric]]


def write_judge_page(path: Path, judged: Judged, question: Question, command: Mapping[str, Any]) -> None:
    """Write the page aside, then move it into place whole: one file, no links, below `MAX_BYTES`."""
    title = f"{judged.suite}{f', {judged.tier}' if judged.tier else ''}"
    before = [_coverage(judged), f"<h1>{html.escape(title)}</h1><p class=note>{_intro(judged)}</p>"]
    if judged.benchmark:
        before.append(_table("As the benchmark counts", judged.benchmark) + _notes(judged.notes))
        before.append(_table("As every stream is counted here", judged.metrics))
    else:
        before.append(_table("Metrics", judged.metrics))
    before.insert(2, meanings())
    before += [_curves(judged), *_groups(judged, question.domains), _confusion(judged.traces), _pairs(judged)]
    after = [f"<h2>Command</h2><div class=card><pre>{html.escape(json.dumps(command, indent=2))}</pre></div>"]
    room = MAX_BYTES - len(html_page(title, before + after).encode()) - 10_000  # for headings
    write_text(path, html_page(title, before + _failures(judged, question, room) + after))


def _table(title: str, table: Table) -> str:
    """Return a table whose columns are in the order of the command, as everything else on the page is."""
    return metrics_table(title, table, tuple(table))


def _coverage(judged: Judged) -> str:
    style = "note" if judged.coverage.complete else "bad"
    return f"<p class={style}>{html.escape(str(judged.coverage))}</p>"


def _notes(notes: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(note)}</dd>" for name, note in notes.items())
    return f"<dl>{rows}</dl>" if notes else ""


def _intro(judged: Judged) -> str:
    streams, count = len(next(iter(judged.traces.values()))), len(judged.traces)
    policies = "One policy" if count == 1 else f"{count} policies"
    return (
        f"{policies} on the same {streams} streams, seed {judged.seed}. Intervals are 95 %"
        " bootstraps over whole streams."
    )


def _curves(judged: Judged) -> str:
    streams = {policy: [units(trace) for trace in traces] for policy, traces in judged.traces.items()}
    return (
        f"<h2>Over the control threshold</h2><div class=card>{threshold_curves(streams)}</div>"
        f"<p class=note>{_CURVE_NOTE}</p>{_table('Ranking of moments', judged.ranking)}"
        f"<h2>Latency</h2><div class=card>{latency_curves(judged.traces)}</div><p class=note>{_LATENCY_NOTE}</p>"
    )


def _groups(judged: Judged, domains: Mapping[str, str]) -> list[str]:
    """Return a table of bars a sound category, and one an ability where there are several."""

    def category(_: Trace, outcome: Outcome) -> str:
        sound = SOUND_CLASSES.get(outcome.label)
        return domains.get(outcome.label) or (_OTHER if sound is None else sound.domain)

    parts = [_bars("By sound category", _CATEGORY_NOTE, judged.traces, category)]
    by_ability = _bars("By ability", _ABILITY_NOTE, judged.traces, _ability)
    return [*parts, by_ability]


def _ability(trace: Trace, outcome: Outcome) -> str | None:
    """Return the ability of a cue: its stream's, or in mixed streams the one that its sub-task is of."""
    if not outcome.deserves:
        return None
    owners = [name for name, ability in ABILITIES.items() if outcome.sub_task in ability.sub_tasks]
    return trace.ability if trace.ability in ABILITIES or not owners else owners[0]


def _bars(
    title: str,
    note: str,
    traces: Mapping[str, Sequence[Trace]],
    group_of: Callable[[Trace, Outcome], str | None],
) -> str:
    groups: dict[str, Table] = defaultdict(dict)
    for policy, played in traces.items():
        counted: dict[str, list[list[float]]] = {}  # of each group [right, all], each a number a stream
        for number, trace in enumerate(played):
            for outcome in outcomes(trace):
                group = group_of(trace, outcome)
                if group is not None:
                    right, every = counted.setdefault(group, [[0.0] * len(played), [0.0] * len(played)])
                    right[number] += outcome.right
                    every[number] += 1
        for group, (right, every) in counted.items():
            groups[group][policy] = {"share": share_metric((right, every))}
    head = "".join(f"<th>{html.escape(policy)}</th>" for policy in traces)
    rows = "".join(
        f"<tr><th>{html.escape(group)}</th>"
        + "".join(metric_cell(groups[group].get(policy, {}).get("share"), (0.0, 1.0)) for policy in traces)
        + "</tr>"
        for group in sorted(groups)
    )
    return (
        f"<h2>{title}</h2><p class=note>{note}</p><div class=card><table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _confusion(traces: Mapping[str, Sequence[Trace]]) -> str:
    counted = {p: Counter(o for t in played for o in map(_class_of, outcomes(t))) for p, played in traces.items()}
    sounds = {(label, deserves) for counts in counted.values() for label, deserves, _ in counts}
    wrong = Counter({s: sum(c[(*s, not s[1])] for c in counted.values()) for s in sounds})
    shown = sorted(sounds, key=lambda s: (-wrong[s], s))[:_MOST_SOUNDS]
    head = "".join(f"<th>{html.escape(policy)}<br>answered / ignored</th>" for policy in traces)
    rows = "".join(
        f"<tr><th>{html.escape(label.replace('_', ' '))}</th><td>{'a reply' if deserves else 'silence'}</td>"
        + "".join(_cell(counts, label, deserves) for counts in counted.values())
        + "</tr>"
        for label, deserves in sorted(shown, key=lambda s: (not s[1], s[0]))
    )
    left = len(sounds) - len(shown)
    more = f" {left} classes with fewer mistakes are left out." if left else ""
    return (
        f"<h2>By class of sound</h2><p class=note>{_CONFUSION_NOTE}{more}</p><div class=card><table><thead><tr>"
        f"<th></th><th>deserves</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _class_of(outcome: Outcome) -> tuple[str, bool, bool]:
    return outcome.label, outcome.deserves, outcome.answered


def _cell(counts: Counter[tuple[str, bool, bool]], label: str, deserves: bool) -> str:
    numbers = {answered: counts[label, deserves, answered] for answered in (True, False)}
    marked = {a: f"<span class=bad>{n}</span>" if n and a != deserves else str(n) for a, n in numbers.items()}
    return f"<td>{marked[True]} / {marked[False]}</td>"


def _pairs(judged: Judged) -> str:
    """Return a table of each kind of number: a row a metric, a column a pair of policies."""
    if not judged.differences:
        return ""
    by_kind = {
        "benchmark": ("as the benchmark counts", judged.benchmark),
        "metrics": ("as counted here", judged.metrics),
        "ranking": ("of moments", judged.ranking),
    }
    tables = []
    for kind, (title, by_policy) in by_kind.items():
        own = {pair: kinds[kind] for pair, kinds in judged.differences.items() if kind in kinds}
        if own:
            tables.append(
                f"<div class=card><table><thead><tr><th>{title}</th>{_pair_heads(judged)}</tr></thead>"
                f"<tbody>{_pair_rows(own, by_policy)}</tbody></table></div>"
            )
    return f"<h2>Differences between policies</h2><p class=note>{_PAIR_NOTE}</p>{''.join(tables)}"


def _pair_heads(judged: Judged) -> str:
    return "".join(f"<th>{html.escape(a)}<br>minus {html.escape(b)}</th>" for a, b in judged.differences)


def _pair_rows(pairs: Mapping[tuple[str, str], Mapping[str, Metric]], table: Table) -> str:
    rows = []
    for name in dict.fromkeys(name for differences in pairs.values() for name in differences):
        known = {pair: differences.get(name) for pair, differences in pairs.items()}
        ends = [x for m in known.values() if m is not None for x in (m.value, m.low, m.high) if x is not None]
        scale = (min(0.0, *ends), max(0.0, *ends)) if ends else (0.0, 0.0)
        compete = contenders(name, table)
        cells = "".join(metric_cell(m, scale, _mark(name, pair, m, compete)) for pair, m in known.items())
        rows.append(f"<tr>{metric_head(name)}{cells}</tr>")
    return "".join(rows)


def _mark(
    name: str, pair: tuple[str, str], difference: Metric | None, compete: Collection[str]
) -> Literal["best", "worse", ""]:
    """Return how a difference is shown: where it is sure, and the better of the two may count as such."""
    if difference is None or difference.low is None or difference.high is None:
        return ""
    if difference.low <= 0 <= difference.high:
        return ""
    first_is_better = (difference.low > 0) != lower_is_better(name)
    if pair[0 if first_is_better else 1] not in compete:
        return ""
    return "best" if first_is_better else "worse"


def _failures(judged: Judged, question: Question, room: int) -> list[str]:
    """Return the worst moments to look at and listen to, at most `room` bytes of them, and what was left out."""
    found = {policy: worst_failures(traces, len(traces)) for policy, traces in judged.traces.items()}
    ranked = [
        (rank, policy, failure)
        for policy, failures in found.items()
        for kind in FAILURE_KINDS
        for rank, failure in enumerate([f for f in failures if f.kind == kind][:SHOWN])
    ]
    drawn: dict[str, list[str]] = {policy: [] for policy in found}
    left = 0
    for _, policy, failure in sorted(ranked, key=lambda one: one[0]):  # the worst of each kind come first
        part = _moment(judged.traces[policy], failure, question)
        size = len(part.encode()) + 1
        if size > room:
            left += 1
        else:
            drawn[policy].append(part)
            room -= size
    parts = [f"<h2>Worst moments</h2><p class=note>{_failures_note(left)}</p>"]
    for policy, moments in drawn.items():
        counts = Counter(failure.kind for failure in found[policy])
        said = ", ".join(f"{kind}: {counts[kind]}" for kind in FAILURE_KINDS)
        parts.append(f"<h2>{html.escape(policy)}</h2><p class=note>Streams with such a moment: {said}.</p>")
        parts += moments
    return parts


def _failures_note(left: int) -> str:
    said = (
        f"Of each kind the {SHOWN} worst of a policy, no two from one stream, with {_BEFORE_S:g} seconds before and"
        f" {_AFTER_S:g} after; sound and pictures are compressed. A click on a picture seeks. All other moments, and"
        " whole streams, are left out; their traces lie beside this page."
    )
    return f"{said} {left} moments more are left out: the page would be too large." if left else said


def _moment(traces: Sequence[Trace], failure: Failure, question: Question) -> str:
    scenario = question.suite.scenario(question.suite.seeds[failure.stream])
    begin_s, end_s = failure.at_s - _BEFORE_S, failure.at_s + _AFTER_S
    cut, trace = excerpt(scenario, traces[failure.stream], begin_s, end_s)
    shown_s = failure.at_s - max(int(begin_s / CHUNK_S), 0) * CHUNK_S
    view = EpisodeView("", cut, trace)
    about = failure.label.replace("_", " ")
    near = {"false alarm": f" after {about}" if about else ""}.get(failure.kind, f": {about}")
    said = f", said “{failure.said}”" if failure.said else ""
    text = f"{failure.kind}{near}, second {failure.at_s:.1f} of stream {scenario.seed}, below at {shown_s:.1f}{said}"
    return f"<h3>{html.escape(text)}</h3>{player_html(view, small=True)}"
