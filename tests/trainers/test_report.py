"""The report is one file that opens offline, shows every number, and is never half written."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import trainers.report
from envs.clock import SAMPLE_RATE
from envs.metrics import Metric
from envs.scenario import Cue, Event, Scenario
from envs.trace import Reply, StepRecord, Trace
from trainers.episode_view import EpisodeView
from trainers.report import MAX_BYTES, ReportData, metrics_table, write_report

VOID = {"meta", "img", "br", "input", "link"}


class Balanced(HTMLParser):
    """Fails where a tag closes another than the one open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def episode(chunks: int = 30, text: str = "Smoke alarm! <Leave> & call.") -> EpisodeView:
    rng = np.random.default_rng(0)
    audio = rng.uniform(-0.3, 0.3, chunks * 6400).astype(np.float32)
    cues = tuple(
        Cue(t, t + 1, t + 4, label, ("Leave.",), ("leave",), 1.0, "i", "safety_signal")
        for t, label in ((2.0, "smoke_alarm"), (7.0, "glass_breaking"))
    )
    events = (Event("smoke_alarm", "a smoke alarm", "foreground", "RESPOND", 2.0, 2.0, "foley"),)
    trace = Trace(5, "proactive", chunks, cues, events)
    trace.replies = [Reply(3.2, 4.0, text, 6, 0), Reply(6.0, 6.4, "Hm?", 2, None)]
    trace.steps = [StepRecord(0, (), {"latency": 0.1})] * chunks
    trace.probabilities = [None, *rng.uniform(0, 1, chunks - 1).tolist()]
    return EpisodeView("held out: one stream <1>", Scenario(5, "proactive", audio, events, cues, ()), trace)


def table() -> dict[str, dict[str, Metric]]:
    def row(f1: float, rate: float, latency: float | None) -> dict[str, Metric]:
        return {
            "trigger_f1": Metric(f1, 40, max(f1 - 0.05, 0.0), f1 + 0.05),
            "trigger_recall": Metric(f1, 40, f1, f1),
            "false_alarms_per_hour": Metric(rate, 12, rate, rate),
            "latency_p50_s": Metric(None, 0, None, None) if latency is None else Metric(latency, 9, latency, latency),
            "mean_reward": Metric(f1 - 0.5, 12, f1 - 0.7, f1 - 0.3),
        }

    return {"ppo": row(0.81, 12.5, 0.75), "supervised": row(0.75, 31.5, 0.85), "silent": row(0.0, 0.0, None)}


def data(**changes: object) -> ReportData:
    values: dict[str, object] = {
        "title": "Quickstart <toy>",
        "seconds": {"total": 31.0, "train supervised": 12.25},
        "tables": {"held_out": table()},
        "curves": {
            "supervised loss": [(1, 3.5), (2, float("nan")), (9, 1.25)],
            "one point": [(1, 0.5)],
            "none": [],
        },
        "episodes": [episode()],
        "config": "seed: 0\nname: <x>\n",
    }
    return ReportData(**{**values, **changes})  # type: ignore[arg-type]


def written(tmp_path: Path, report: ReportData) -> str:
    path = tmp_path / "report.html"
    write_report(path, report)
    assert path.stat().st_size < MAX_BYTES
    assert list(tmp_path.iterdir()) == [path]
    return path.read_text(encoding="utf-8")


def cells(page: str, metric: str) -> list[str]:
    found = re.search(rf"<tr><th>{metric} .*?</tr>", page)
    assert found is not None
    return re.findall(r"<td.*?</td>", found.group())


def test_one_well_formed_file_without_links(tmp_path: Path) -> None:
    page = written(tmp_path, data())
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    assert not re.search(r"(src|href)=[\"'](?!data:)|https?://|@import|url\(", page)
    assert "&lt;Leave&gt; &amp; call." in page
    assert "<Leave>" not in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_numbers_come_with_interval_and_count_in_the_order_of_strength(tmp_path: Path) -> None:
    page = written(tmp_path, data())
    head = re.search(r"<thead>(.*?)</thead>", page)
    assert head is not None
    assert re.findall(r"<th>(\w+)</th>", head.group()) == ["silent", "supervised", "ppo"]
    assert "0.810" in cells(page, "trigger f1")[2]
    assert "0.760 to 0.860" in cells(page, "trigger f1")[2]
    assert "n = 40" in cells(page, "trigger f1")[2]
    assert cells(page, "latency p50 s")[0] == "<td>none</td>"


def test_best_value_is_marked_and_a_silent_agent_does_not_win(tmp_path: Path) -> None:
    page = written(tmp_path, data())
    for metric in ("trigger f1", "false alarms per hour", "latency p50 s", "mean reward"):
        assert ["class=best" in cell for cell in cells(page, metric)] == [False, False, True], metric


def test_one_that_seldom_takes_the_turn_is_not_the_fastest() -> None:
    """Of a benchmark's own numbers, too: its rate stands in for recall, and where it has none, nobody wins."""

    def row(taken: float, latency: float, in_pauses: float) -> dict[str, Metric]:
        return {
            "takeover_rate: smooth turn taking": Metric(taken, 100, taken, taken),
            "latency_mean_s: smooth turn taking": Metric(latency, 100, latency, latency),
            "latency_mean_s: elsewhere": Metric(latency, 100, latency, latency),
            "takeover_rate: pause handling": Metric(in_pauses, 100, in_pauses, in_pauses),
        }

    page = metrics_table("duplex", {"rare": row(0.1, 0.2, 0.0), "fast": row(0.8, 0.4, 0.5), "slow": row(1.0, 0.9, 0.6)})
    for metric, best in (
        ("latency mean s: smooth turn taking", [False, True, False]),
        ("latency mean s: elsewhere", [False, False, False]),
        ("takeover rate: smooth turn taking", [False, False, True]),
        ("takeover rate: pause handling", [True, False, False]),
    ):
        assert ["class=best" in cell for cell in cells(page, metric)] == best, metric
    answers = {
        name: {"respond_accuracy": Metric(share, 9, share, share), "latency_p50_s": Metric(wait, 9, wait, wait)}
        for name, share, wait in (("rare", 0.1, 0.2), ("fast", 0.8, 0.4), ("slow", 1.0, 0.9))
    }
    page = metrics_table("sounds", answers)
    assert ["class=best" in cell for cell in cells(page, "latency p50 s")] == [False, True, False]


def test_nothing_is_marked_where_all_are_equal(tmp_path: Path) -> None:
    alone = {"held_out": {"ppo": table()["ppo"]}}
    assert "class=best" not in written(tmp_path, data(tables=alone))


def test_episode_can_be_heard_and_read(tmp_path: Path) -> None:
    page = written(tmp_path, data())
    sound = re.search(r"data:audio/wav;base64,([^\"]+)", page)
    assert sound is not None
    audio, rate = sf.read(io.BytesIO(base64.b64decode(sound.group(1))), dtype="float32")
    assert rate == SAMPLE_RATE
    np.testing.assert_allclose(audio, episode().scenario.audio, atol=1e-4)
    text = re.sub(r"<[^>]+>", " ", page[page.index("<audio") :])
    assert text.index("answers smoke alarm") < text.index("false alarm") < text.index("missed glass breaking")


def test_an_empty_run_still_gives_a_page(tmp_path: Path) -> None:
    empty = data(seconds={}, tables={}, curves={}, episodes=[], config="")
    assert "Quickstart &lt;toy&gt;" in written(tmp_path, empty)


def test_episodes_beyond_the_size_limit_are_named_not_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = len(written(tmp_path, data()).encode()) + 500
    monkeypatch.setattr(trainers.report, "MAX_BYTES", limit)
    page = written(tmp_path, data(episodes=[episode(), episode()]))
    assert len(page.encode()) <= limit
    assert page.count("<audio") == 1
    assert "one stream &lt;1&gt;: left out" in page


def test_a_failed_write_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(tmp_path, data(episodes=[]))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(tmp_path / "report.html", data(title="a new one", episodes=[]))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
