"""Leaderboards: the rows of an evaluation as a file, and several of them as one table beside what was published.

`leaderboard.json` is `{"format": 1, "rows": [...]}`. A row has policy, suite, tier, mode, metrics (each with value,
count and interval), counts, coverage, seed, commit (of SoundFlow, null where unknown), date, conditions (texts by name,
see `trainers.conditions`; files of earlier versions have none), and published, which is false: rows that others
published lie in `trainers/published`, each file with its source, and are marked.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envs.errors import AnswerError, ScenarioError
from envs.files import write_text
from envs.json_checks import at, json_list, json_object
from envs.metrics import Metric, lower_is_better, metrics_json
from envs.suites.proactive_scores import MODES
from trainers.judge import Judged

LEADERBOARD = "leaderboard.json"
FORMAT = 1
PUBLISHED = Path(__file__).parent / "published"
STREAMS = "streams"  # the mode of suites that have but one way to count
_RANKED_BY = ("accuracy", "trigger_f1")  # the first of them that a row has


@dataclass(frozen=True)
class Row:
    """A policy on one tier of a suite, counted in one mode."""

    policy: str
    suite: str
    tier: str
    mode: str
    metrics: dict[str, Metric]
    counts: dict[str, int]
    coverage: dict[str, int]  # named and present
    seed: int | None
    commit: str | None
    date: str | None  # ISO 8601, UTC
    published: bool = False
    source: str = ""  # of a published row: where
    conditions: dict[str, str] = field(default_factory=dict)  # empty: not known

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"metrics": metrics_json(self.metrics)}

    @property
    def complete(self) -> bool:
        """Whether nothing of the suite was missing."""
        return self.coverage["present"] == self.coverage["named"]

    @property
    def ranked_by(self) -> str:
        """The metric that the row's place follows from."""
        return next((name for name in _RANKED_BY if name in self.metrics), next(iter(self.metrics)))

    @property
    def score(self) -> float:
        """Its value, negative where low is good; minus infinity where it has none."""
        value = self.metrics[self.ranked_by].value
        if value is None:
            return float("-inf")
        return -value if lower_is_better(self.ranked_by) else value


def rows_of(judged: Judged) -> list[Row]:
    """Return the rows of an evaluation, one for each policy and mode."""
    rows = []
    commit, date = _commit(), datetime.now(UTC).isoformat(timespec="seconds")
    for policy, metrics in judged.metrics.items():
        own = judged.benchmark.get(policy, metrics)
        modes: list[str] = [mode for mode in MODES if f"{mode}_accuracy" in own]
        traces = judged.traces[policy]
        counts = {"streams": len(traces), "cues": sum(len(trace.cues) for trace in traces)}
        of = judged.coverage
        short = of.complete and of.short  # nobody has missed the rest, and it is missing all the same
        named, present = (of.released, of.recordings) if short else (of.named, of.present)
        coverage, conditions = {"named": named, "present": present}, dict(judged.conditions)
        for mode in modes or [STREAMS]:
            shown = _of_mode(own, mode) if modes else own
            about = (policy, judged.suite, judged.tier, mode, shown, counts, coverage, judged.seed, commit, date)
            rows.append(Row(*about, conditions=conditions))
    return rows


def _of_mode(metrics: dict[str, Metric], mode: str) -> dict[str, Metric]:
    """Return the mode's accuracy as `accuracy`, and all that is no mode's; the official scorer has nothing else."""
    own = {"accuracy": metrics[f"{mode}_accuracy"]}
    if mode == "official":
        return own
    return own | {name: m for name, m in metrics.items() if name not in [f"{mode}_accuracy" for mode in MODES]}


def write_leaderboard(path: Path, rows: Sequence[Row]) -> None:
    """Write rows; the file appears under its name when it is whole."""
    text = json.dumps({"format": FORMAT, "rows": [row.to_json() for row in rows]}, indent=2, allow_nan=False)
    write_text(path, f"{text}\n")


def read_leaderboard(run: Path) -> list[Row]:
    """Read the rows of a run's folder, or of a file.

    Raises:
        ScenarioError: naming the file, when it is missing, of another format, or a row is none.
    """
    path = run / LEADERBOARD if run.is_dir() else run
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ScenarioError(f"{path}: no such file; `soundflow evaluate --out` writes {LEADERBOARD}") from error
    try:
        data = json_object(json.loads(text), "the file")
        if data.get("format") != FORMAT:
            raise ScenarioError(f"{path}: format is {data.get('format')!r}, expected {FORMAT}; evaluate again")
        rows = json_list(data.get("rows"), dict, "rows")
        return [_row(row, f"rows[{i}]") for i, row in enumerate(rows)]
    except (ValueError, AnswerError) as error:
        raise ScenarioError(f"{path}: no leaderboard: {error}") from error


def _row(data: dict[str, Any], where: str) -> Row:
    metrics = {
        name: _metric(json_object(value, f"{where}.metrics.{name}"), f"{where}.metrics.{name}")
        for name, value in json_object(at(data, "metrics", dict, where), f"{where}.metrics").items()
    }
    if not metrics:
        raise AnswerError(f"{where}.metrics is empty, expected at least one metric", "field")
    counts = {key: at(data["counts"], key, int, f"{where}.counts") for key in at(data, "counts", dict, where)}
    covered, known = at(data, "coverage", dict, where), at(data, "conditions", dict, where, {})
    policy, suite, tier, mode = (at(data, key, str, where) for key in ("policy", "suite", "tier", "mode"))
    return Row(
        policy,
        suite,
        tier,
        mode,
        metrics,
        counts,
        {key: at(covered, key, int, f"{where}.coverage") for key in ("named", "present")},
        at(data, "seed", int, where, None),
        at(data, "commit", str, where, None),
        at(data, "date", str, where, None),
        at(data, "published", bool, where, False),
        at(data, "source", str, where, ""),
        {key: at(known, key, str, f"{where}.conditions") for key in known},
    )


def _metric(data: dict[str, Any], where: str) -> Metric:
    value, low, high = (at(data, key, float, where, None) for key in ("value", "low", "high"))
    return Metric(value, at(data, "count", int, where), low, high)


def published_rows(suite: str, tier: str) -> list[Row]:
    """Return what was published for a tier of a suite; an empty list where nothing was."""
    path = PUBLISHED / f"{suite.replace('-', '_')}.json"
    if not path.is_file():
        return []
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for row in (row for row in data["rows"] if row["tier"] == tier):
        metrics = {
            "accuracy" if name == "average" else name: Metric(share, data["counts"][name], None, None)
            for name, share in row["accuracy"].items()
        }
        whole = data["counts"]["average"]
        covered, counts = {"named": whole, "present": whole}, {"recordings": whole}
        rows.append(
            Row(
                row["policy"], suite, tier, data["mode"], metrics, counts, covered, None, None, None, True,
                data["source"],
            )
        )  # fmt: skip
    return rows


def merge(runs: Sequence[Path]) -> list[Row]:
    """Return the rows of several runs and the published ones: modes apart, the best first, incomplete ones last.

    Where two runs have a policy of the same name, it is called RUN/NAME.

    Raises:
        ScenarioError: when a run cannot be read or is given twice, or rows are of different suites, tiers or
            conditions, or ranked by different numbers: such numbers cannot be ranked together.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise ScenarioError("a run is given twice; name each once")
    read = {run: read_leaderboard(run) for run in runs}
    of_run = [(run, row) for run, rows in read.items() for row in rows]
    if not of_run:
        raise ScenarioError(f"{runs[0]}: holds no rows")
    (first, one), *others = of_run
    for run, row in others:
        if (row.suite, row.tier) != (one.suite, one.tier):
            raise ScenarioError(
                f"{run} has rows of {row.suite} ({row.tier or 'no tier'}), {first} of {one.suite}"
                f" ({one.tier or 'no tier'}); such numbers cannot be ranked together: name runs of one suite and tier"
            )
    ranked_by: dict[str, tuple[Path, str]] = {}  # of each mode, and of the run that had it first
    for run, row in of_run:
        earlier, by = ranked_by.setdefault(row.mode, (run, row.ranked_by))
        if by != row.ranked_by:
            raise ScenarioError(
                f"{run} has {row.ranked_by} of {row.policy}, {earlier} has {by} in its place; such numbers cannot be"
                " ranked together: name runs that were scored alike"
            )
    _refuse_other_conditions(of_run)
    keys, called = [(row.policy, row.mode) for _, row in of_run], _run_names(runs)
    rows = [
        replace(row, policy=f"{called[run]}/{row.policy}") if keys.count((row.policy, row.mode)) > 1 else row
        for run, row in of_run
    ]
    rows += published_rows(one.suite, one.tier)
    modes = list(dict.fromkeys(row.mode for row in rows))
    return sorted(rows, key=lambda row: (modes.index(row.mode), not row.complete, -row.score, row.policy))


def _refuse_other_conditions(of_run: Sequence[tuple[Path, Row]]) -> None:
    """Raise ScenarioError where two rows differ in a condition that both know."""
    first: dict[str, tuple[Path, str]] = {}  # value of each condition, and the run that had it first
    for run, row in of_run:
        for name, value in row.conditions.items():
            earlier, known = first.setdefault(name, (run, value))
            if known != value:
                raise ScenarioError(
                    f"{run} has {row.policy} with {name}: {value}, {earlier} has {name}: {known}; such numbers cannot"
                    " be ranked together: name runs of the same conditions"
                )


def _run_names(runs: Sequence[Path]) -> dict[Path, str]:
    """Return what each run is called: as much of its path's end as tells it from the others."""
    parts = [run.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-depth:]) for own in parts]
        if len(set(names)) == len(names):
            break
    return dict(zip(runs, names, strict=True))


def leaderboard_text(rows: Sequence[Row]) -> str:
    """Return merged rows as a table to read; every mode has its own places."""
    first, wide = rows[0], max(24, *(len(row.policy) for row in rows))
    lines = [f"{first.suite}{f', {first.tier}' if first.tier else ''}"]
    conditions = {name: value for row in rows for name, value in row.conditions.items()}
    lines += [f"{name}: {value}" for name, value in conditions.items()]
    for mode in dict.fromkeys(row.mode for row in rows):
        own = [row for row in rows if row.mode == mode]
        lines.append(f"\n{mode:4s}{'':{max(wide - len(mode), 0)}s}   {own[0].ranked_by:>10s}   95 % interval     count")
        for place, row in enumerate(own, start=1):
            lines.append(_line(f"{place:3d}" if row.complete else "  -", row, wide))
    for source in dict.fromkeys(row.source for row in rows if row.source):
        lines.append(f"\npublished: {source}")
    if any(row.published for row in rows):
        lines.append("Published rows are as printed there, and nothing of them was played here.")
    if not all(row.complete for row in rows):
        lines.append("incomplete: recordings were missing; such rows have no place.")
    if any(map(_is_unknown, rows)):
        lines.append("conditions unknown: of an earlier version, which did not note them; evaluate again to be sure.")
    return "\n".join(lines)


def _line(place: str, row: Row, wide: int) -> str:
    metric = row.metrics[row.ranked_by]
    value = "none" if metric.value is None else f"{metric.value:.3f}"
    known = metric.low is not None and metric.high is not None
    interval = f"{metric.low:.3f} to {metric.high:.3f}" if known else ""
    marks = "   published" if row.published else ""
    if not row.complete:
        marks += f"   incomplete: {row.coverage['present']} of {row.coverage['named']}"
    if _is_unknown(row):
        marks += "   conditions unknown"
    return f"{place} {row.policy:{wide}s} {value:>10s}   {interval:16s} {metric.count:6d}{marks}"


def _is_unknown(row: Row) -> bool:
    return not row.published and not row.conditions


def _commit() -> str | None:
    """Return the commit of this checkout of SoundFlow; None where it is none, or git is not there."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
