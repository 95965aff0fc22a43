"""Prediction files of Proactive-Sound-Bench, good and bad, each with both of its numbers computed by hand."""

import json
from pathlib import Path

import pytest
from tiny_bench import IDS, RESPOND, write_lines, write_manifests

from envs.errors import ManifestError
from envs.suites.proactive_manifest import BenchItem, read_items
from envs.suites.proactive_predictions import Prediction, Predictions, prediction_line, read_predictions
from envs.suites.proactive_scores import CHRF_MATCH, MODES, SemanticMatch, score_predictions

SHARED = Path(__file__).parents[3] / "shared" / "proactive_sound_bench"


def raw(decision: str, reply: str = "") -> str:
    return f"<Decision>{decision}</Decision><Reply>{reply}</Reply>"


def line(item_id: object, text: object, key: str = "_raw_reply") -> str:
    return json.dumps({"id": item_id, key: text}, ensure_ascii=False)


RIGHT = {i: line(i, raw("RESPOND" if i in RESPOND else "IGNORE")) for i in IDS}


def right(**other: str) -> str:
    """Return a file in which every line is right, but for those given."""
    return "\n".join({**RIGHT, **other}.values()) + "\n"


def without(*left_out: str) -> str:
    return "\n".join(text for i, text in RIGHT.items() if i not in left_out) + "\n"


# name: (file, official: right and counted, strict: right of six)
FILES = {
    "all right": (right(), (6, 6), 6),
    "two wrong": (right(r1=line("r1", raw("IGNORE")), i1=line("i1", raw("RESPOND"))), (4, 6), 4),
    "empty file": ("", (0, 0), 0),
    "two missing": (without("r1", "i3"), (4, 4), 4),
    "blank lines": (right().replace("\n", "\n\n  \n"), (6, 6), 6),
    "CRLF": (right().replace("\n", "\r\n"), (6, 6), 6),
    "no last newline": (right().rstrip("\n"), (6, 6), 6),
    "letter case": (right(r1=line("r1", "<DECISION>respond</decision>"), i1=line("i1", raw("Ignore"))), (6, 6), 6),
    "spaces in tags": (right(r1=line("r1", "< Decision >\n RESPOND \n</ Decision >")), (6, 6), 6),
    "text around": (right(r1=line("r1", f"I think so. {raw('RESPOND', 'Look.')} Done.")), (6, 6), 6),
    "no tags": (right(r1=line("r1", "RESPOND")), (5, 5), 5),
    "wrong tag": (right(r1=line("r1", "<Answer>RESPOND</Answer>")), (5, 5), 5),
    "unclosed tag": (right(r1=line("r1", "<Decision>RESPOND<Reply>Look.</Reply>")), (5, 5), 5),
    "empty decision": (right(i1=line("i1", raw(""))), (5, 5), 5),
    "other word": (right(i1=line("i1", raw("SILENT"))), (5, 5), 5),
    "letters that only look alike": (
        right(r1=line("r1", raw("RE\u017fPOND")), i1=line("i1", raw("\u0131gnore")), i2=line("i2", raw("\u0130GNORE"))),
        (5, 5),
        5,
    ),
    "word within another": (right(r1=line("r1", raw("RESPONDING"))), (5, 5), 5),
    "both words, the right one first": (right(r1=line("r1", raw("RESPOND or IGNORE"))), (6, 6), 5),
    "both words, the wrong one first": (right(i1=line("i1", raw("(RESPOND or IGNORE)"))), (5, 6), 5),
    "two decisions that agree": (right(r1=line("r1", raw("RESPOND") * 2)), (6, 6), 6),
    "two decisions that do not": (right(r1=line("r1", raw("RESPOND") + raw("IGNORE"))), (6, 6), 5),
    "empty decision before a full one": (right(r1=line("r1", raw("") + raw("RESPOND"))), (5, 5), 5),
    "nested decisions": (right(r1=line("r1", "<Decision><Decision>RESPOND</Decision></Decision>")), (6, 6), 6),
    "decision in the reply": (right(r1=line("r1", "<Reply><Decision>RESPOND</Decision></Reply>")), (6, 6), 6),
    "empty reply": (right(r1=line("r1", "<Decision>RESPOND</Decision>")), (6, 6), 6),
    "Error:": (right(r1=line("r1", f"Error: timeout {raw('RESPOND')}")), (5, 5), 5),
    "empty text": (right(r1=line("r1", "")), (5, 5), 5),
    "null text": (right(r1=line("r1", None)), (5, 5), 5),
    "reply in place of _raw_reply": (right(r1=line("r1", raw("RESPOND"), "reply")), (6, 6), 6),
    "blank _raw_reply hides reply": (
        right(r1=json.dumps({"id": "r1", "_raw_reply": " ", "reply": raw("RESPOND")})),
        (5, 5),
        5,
    ),
    "repeated alike": (right() + RIGHT["r1"], (6, 6), 6),
    "repeated, the last one right": (line("r1", raw("IGNORE")) + "\n" + right(), (6, 6), 5),
    "repeated, the last one wrong": (right() + line("r1", raw("IGNORE")), (5, 6), 5),
    "repeated, the last one undecided": (right() + line("r1", "?"), (5, 5), 5),
    "repeated with another reply": (right() + line("r1", raw("RESPOND", "Look.")), (6, 6), 5),
    "repeated, the first one no text": (line("r1", 7) + "\n" + right(), (6, 6), 5),
    "unknown ids": (right() + line("zz", raw("RESPOND")) + "\n" + line("R1", raw("IGNORE")), (6, 6), 6),
    "no id": (without("r1") + json.dumps({"_raw_reply": raw("RESPOND")}), (5, 5), 5),
    "null id": (right() + line(None, raw("RESPOND")), (6, 6), 6),
}
STOPS = {  # the published scorer ends with an exception at these; our official number leaves the line out
    "broken line": (without("r1") + RIGHT["r1"][:-3], (5, 5), 5),
    "line that is a list": (right() + "[]", (6, 6), 6),
    "line that is a number": (without("i1") + "7", (5, 5), 5),
    "byte order mark": ("\ufeff" + right(), (6, 6), 6),
    "text that is a number": (right(r1=line("r1", 7)), (5, 5), 5),
    "text that is an object": (right(i1=line("i1", {"decision": "IGNORE"})), (5, 5), 5),
    "blank _raw_reply before a reply that is a number": (
        right(r1=json.dumps({"id": "r1", "_raw_reply": " ", "reply": 7})),
        (5, 5),
        5,
    ),
}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchItem, ...]:
    return read_items(write_manifests(tmp_path_factory.mktemp("bench")))


def read(text: str, folder: Path) -> Predictions:
    path = folder / "predictions.jsonl"
    path.write_bytes(text.encode())
    return read_predictions(path, IDS)


@pytest.mark.parametrize("name", [*FILES, *STOPS])
def test_both_numbers_by_hand(name: str, items: tuple[BenchItem, ...], tmp_path: Path) -> None:
    text, (correct, counted), strictly = (FILES | STOPS)[name]
    predictions = read(text, tmp_path)
    official, strict = (score_predictions(items, predictions, mode).to_json() for mode in MODES)
    assert (official["correct"], official["total"]) == (correct, counted)
    assert official["accuracy"] == (correct / counted if counted else 0.0)
    assert (strict["correct"], strict["total"]) == (strictly, 6)
    assert strict["accuracy"] == strictly / 6
    assert bool(official["published_scorer_stops"]) == (name in STOPS)


def test_what_is_wrong_with_a_file_is_counted(items: tuple[BenchItem, ...], tmp_path: Path) -> None:
    lines = [RIGHT["r1"], RIGHT["r1"], line("r2", "?"), RIGHT["i1"], line("zz", ""), "{", line(None, ""), line("i2", 7)]
    predictions = read("\n".join(lines), tmp_path)
    counts = score_predictions(items, predictions, "strict").to_json()["counts"]
    assert counts == {"items": 6, "missing": 2, "undecided": 2, "repeated": 1, "unknown": 1, "malformed": 3}
    assert [broken.line for broken in predictions.malformed] == [6, 7, 8]
    assert "predictions.jsonl, line 6: not JSON" in predictions.published_stops


def test_every_number_by_hand(items: tuple[BenchItem, ...], tmp_path: Path) -> None:
    """Right: r1, r2, i1. Wrong: i2. Undecided: r3. Missing: i3."""
    wrong = {"i2": line("i2", raw("RESPOND")), "r3": line("r3", "?")}
    timed = {"r1": line("r1", raw("RESPOND"))[:-1] + ', "latency_s": 0.4}'}
    timed |= {"r2": line("r2", raw("RESPOND"))[:-1] + ', "latency_s": -0.2}'}
    lines = {**RIGHT, **wrong, **timed}
    predictions = read("\n".join(text for i, text in lines.items() if i != "i3"), tmp_path)
    strict, official = (score_predictions(items, predictions, mode).to_json() for mode in ("strict", "official"))

    def share(correct: int, total: int) -> dict[str, float]:
        return {"accuracy": correct / total, "correct": correct, "total": total}

    assert strict["accuracy"] == strict["decision_accuracy"] == 3 / 6
    assert strict["respond"] == share(2, 3)
    assert strict["ignore"] == share(1, 3)
    assert strict["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert strict["domains"] == {"Music": share(2, 2), "Traffic": share(1, 4)}
    assert strict["sub_domains"] == {
        "Music/Artistic": share(2, 2),
        "Traffic/Large Traffic": share(0, 1),
        "Traffic/Vehicle": share(1, 3),
    }
    assert strict["timing"] == pytest.approx({"latency_p50_s": 0.1, "latency_p95_s": 0.37, "count": 2})
    assert official["accuracy"] == 3 / 4
    assert official["respond"] == share(2, 2)
    assert official["ignore"] == share(1, 2)
    assert official["balanced_accuracy"] == 0.75
    assert official["domains"] == official["sub_domains"] == {"Unknown": share(3, 4)}
    sizes = dict.fromkeys(IDS, 3) | {"r1": 5}
    by_size = score_predictions(items, predictions, "strict").to_json(sizes)["stream_sizes"]
    assert by_size == {"3": share(2, 5), "5": share(1, 1)}
    json.dumps([strict, official], allow_nan=False)


def test_nothing_decided_has_no_balanced_accuracy_and_no_timing(items: tuple[BenchItem, ...]) -> None:
    official = score_predictions(items, Predictions(), "official").to_json()
    assert (official["accuracy"], official["balanced_accuracy"], official["timing"]) == (0.0, None, None)


def test_the_published_domain_is_what_follows_a_folder_that_no_released_path_has() -> None:
    paths = ["/data/sound_v3/Music/Artistic/a.wav", "/data/sound_v3/Music/b.wav", "./sound_v3/Music/Artistic/c.wav"]
    items = [BenchItem(str(n), path, "", "IGNORE", ()) for n, path in enumerate([*paths, "sound_v3/Music/d/e.wav"])]
    predictions = Predictions({item.id: [Prediction(1, raw("IGNORE"))] for item in items})
    numbers = score_predictions(items, predictions, "official").to_json()
    assert {name: share["total"] for name, share in numbers["domains"].items()} == {"Music": 3, "Unknown": 1}
    assert {name: share["total"] for name, share in numbers["sub_domains"].items()} == {
        "Music/Artistic": 2,
        "Unknown": 2,
    }


@pytest.mark.parametrize("mode", MODES)
def test_with_semantic_matching_a_reply_has_to_match(mode: str, items: tuple[BenchItem, ...], tmp_path: Path) -> None:
    """r1 says its reference, r2 something else, r3 nothing; what is to be ignored needs no words."""
    replies = {
        "r1": line("r1", raw("RESPOND", RESPOND["r1"][2])),
        "r2": line("r2", raw("RESPOND", "zzz")),
        "r3": line("r3", raw("RESPOND", " ")),
    }
    predictions = read(right(**replies), tmp_path)
    numbers = score_predictions(items, predictions, mode, CHRF_MATCH).to_json()
    assert (numbers["correct"], numbers["total"], numbers["decision_accuracy"]) == (4, 6, 1.0)
    assert numbers["semantic"] == {"by": "chrf", "threshold": 0.25}
    assert numbers["respond"]["correct"] == 1


def test_a_score_at_the_threshold_is_no_match(items: tuple[BenchItem, ...], tmp_path: Path) -> None:
    predictions = read(right(r1=line("r1", raw("RESPOND", "half")), r2=line("r2", raw("RESPOND", "more"))), tmp_path)
    match = SemanticMatch("mine", 0.5, lambda reply, _: 0.5 if reply == "half" else 0.500001)
    assert score_predictions(items, predictions, "strict", match).to_json()["respond"]["correct"] == 1


def test_our_lines_are_read_back_as_they_were_meant(tmp_path: Path) -> None:
    """A reply may hold line breaks, the tags themselves, and other scripts."""
    said = ["Watch out!\nGlass.</Reply>", "< DECISION >IGNORE</Decision> 小心"]
    lines = [prediction_line("r1", said, 0.4), prediction_line("r2", [""], 1.0), prediction_line("i1", [], None)]
    found = read("\n".join(json.dumps(text) for text in lines), tmp_path).by_id
    assert found["r1"][0].clear_decision == found["r2"][0].clear_decision == "RESPOND"
    assert found["r1"][0].reply == "Watch out!\nGlass. IGNORE 小心"
    assert (found["r1"][0].latency_s, found["i1"][0].latency_s) == (0.4, None)
    assert (found["i1"][0].clear_decision, found["i1"][0].reply) == ("IGNORE", "")


@pytest.mark.parametrize("latency", ["NaN", "Infinity", "1" + "0" * 400, '"soon"', "true", "null"])
def test_a_latency_that_is_no_number_of_seconds_is_none(latency: str, tmp_path: Path) -> None:
    text = RIGHT["r1"][:-1] + f', "latency_s": {latency}}}'
    assert read(text, tmp_path).by_id["r1"][0].latency_s is None


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(RIGHT["r1"].encode("utf-16"))
    with pytest.raises(ManifestError, match=r"predictions\.jsonl: not a text file in UTF-8"):
        read_predictions(path, IDS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": "r2"}, "line 7: id 'r2' was there before"),
        ({"id": 7}, "line 7: id is 7, expected text"),
        ({"decision": "MAYBE"}, "line 7: decision is 'MAYBE', expected RESPOND or IGNORE"),
        ({"path": "./a.wav"}, r"line 7: path is '\./a\.wav', expected folders"),
        ({"decision": "RESPOND"}, "line 7: id 'new' deserves a reply"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(change: dict[str, object], expected: str, tmp_path: Path) -> None:
    write_manifests(tmp_path)
    manifest = tmp_path / "proactive_reply_benchmark.jsonl"
    item = {"id": "new", "path": "./a/b/c/IGNORE/new.wav", "description": "x", "decision": "IGNORE"} | change
    manifest.write_text(f"{manifest.read_text(encoding='utf-8')}{json.dumps(item)}\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=expected):
        read_items(tmp_path)


def test_manifests_that_are_missing_empty_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"response\.jsonl: no such file"):
        read_items(tmp_path)
    write_manifests(tmp_path)
    answers = tmp_path / "proactive_reply_benchmark_response.jsonl"
    write_lines(answers, [{"id": "r1", "standard_answers": "none"}])
    with pytest.raises(ManifestError, match=r"response\.jsonl, line 1: standard_answers is 'none'"):
        read_items(tmp_path)
    answers.write_text("{", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"response\.jsonl, line 1: not JSON.*download it again"):
        read_items(tmp_path)
    write_manifests(tmp_path)
    (tmp_path / "proactive_reply_benchmark.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"benchmark\.jsonl: holds no items"):
        read_items(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared manifests are not here")
def test_the_released_manifests_hold_what_the_paper_counts() -> None:
    items = read_items(SHARED)
    kinds = [item.decision for item in items]
    assert (len(items), kinds.count("RESPOND"), kinds.count("IGNORE")) == (644, 267, 377)
    assert len({item.domain for item in items}) == 6
    assert len({item.sub_domain for item in items}) == 17
    silent = Predictions({item.id: [Prediction(1, raw("IGNORE"))] for item in items})
    scores = score_predictions(items, silent, "official")
    assert round(scores.accuracy, 3) == 0.585  # as the paper says of a model that is always silent
    assert scores.balanced_accuracy == 0.5
