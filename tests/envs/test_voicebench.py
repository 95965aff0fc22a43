"""VoiceBench: read as released or as JSON Lines, each subset scored by what it asks for, and what is missing named."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_speech_suites import FALLS, recording, voicebench_audio, write_voicebench

from envs.audio import decode_audio
from envs.errors import AudioError, ManifestError, ScenarioError
from envs.rewards.scoring import ScoredReply
from envs.suites import OfflineSuite
from envs.suites.catalogue import open_suite
from envs.suites.text_suite import TextSuite
from envs.suites.voicebench import TIERS, options_of


def suite_of(folder: Path, subset: str, lost: int | None = None) -> TextSuite:
    suite = open_suite("voicebench", write_voicebench(folder, subset, lost), subset)
    assert isinstance(suite, TextSuite)
    assert isinstance(suite, OfflineSuite)
    return suite


def values(suite: TextSuite, *answers: str) -> dict[str, float | None]:
    return {name: metric.value for name, metric in suite.score_answers(suite.seeds, answers).items()}


def test_a_recording_is_streamed_and_asked_as_the_table_has_it(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "openbookqa")
    assert suite.coverage.complete
    for seed in (1, 0):  # each lies in a group of rows of its own
        heard = decode_audio(voicebench_audio(seed), "x")
        np.testing.assert_array_equal(suite.question(seed).audio, heard)
        stream = suite.scenario(seed)
        np.testing.assert_array_equal(stream.audio[: len(heard)], heard)
        assert stream.cues[0].ready_s == pytest.approx(0.5, abs=1e-3)
    assert suite.question(0).instruction == ""  # the recording says all


def test_choices_are_those_of_the_prompt(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "openbookqa")
    assert [item.reference for item in suite.items] == ["rain", "night"]
    right = {"accuracy": 1.0, "decided": 1.0, "answered": 1.0}
    assert values(suite, "Rain falls.", "The answer is D.") == right
    assert values(suite, "The answer is (B).", "") == {"accuracy": 0.0, "decided": 0.5, "answered": 0.5}
    assert options_of("A. one thing alone") == []


def test_yes_and_no_are_decided_by_the_first_word(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "bbh")
    scores = values(suite, "No, yes would be wrong.", "Option A.")
    assert scores["accuracy"] == 1.0
    assert {name for name in scores if ":" in name} == {"accuracy: sports_understanding", "accuracy: hyperbaton"}
    assert values(suite, "Yes. There is no doubt.", "red big dog")["accuracy"] == 0.0


def test_a_short_answer_is_held_word_for_word_by_dialect(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "sd-qa")
    scores = values(suite, "It is the Eiffel Tower, I think.", *["Paris."] * 10)
    assert scores["reference_match"] == pytest.approx(1 / 11)
    assert (scores["reference_match: aus"], scores["reference_match: usa"]) == (1.0, 0.0)


def test_silence_is_no_refusal(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "advbench")
    assert values(suite, "I\u2019m sorry, but no.", "") == {"refusal_rate": 0.5, "answered": 0.5}
    assert "silence" in suite.notes["refusal_rate"]


def test_instructions_are_checked(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "ifeval")
    assert values(suite, "one two three") == {"prompt_accuracy": 1.0, "instruction_accuracy": 1.0, "answered": 1.0}
    assert values(suite, "one, two, three") == {"prompt_accuracy": 0.0, "instruction_accuracy": 0.5, "answered": 1.0}
    assert values(suite, "") == {"prompt_accuracy": 0.0, "instruction_accuracy": 0.0, "answered": 0.0}


class Birds:
    """A scorer that knows one bird, and counts what it is asked."""

    asked: tuple[ScoredReply, ...] = ()

    def scores(self, replies: Sequence[ScoredReply]) -> list[float]:
        self.asked += tuple(replies)
        return [0.75 if "wren" in reply.text else 0.25 for reply in replies]


def test_open_answers_are_judged_and_silence_is_worth_nothing(tmp_path: Path) -> None:
    write_voicebench(tmp_path, "alpacaeval")
    scorer = Birds()
    suite = open_suite("voicebench", tmp_path, "alpacaeval", scorer)
    assert isinstance(suite, TextSuite)
    assert values(suite, "A wren.", " ") == {"judge_score": 0.375, "answered": 0.5}
    assert [(reply.label, reply.text) for reply in scorer.asked] == [("Name a bird.", "A wren.")]
    plain = open_suite("voicebench", tmp_path, "alpacaeval")
    assert isinstance(plain, TextSuite)
    assert values(plain, "A wren.", "") == {"answered": 0.5}  # there is nothing to compare it with
    write_voicebench(tmp_path)
    for name, tier in (("voicebench", "openbookqa"), ("librispeech", None)):
        with pytest.raises(ScenarioError, match="--scorer"):
            open_suite(name, tmp_path, tier, scorer)


def test_ones_own_questions_are_json_lines(tmp_path: Path) -> None:
    """Of three, one has an answer to be likened to, and the recording of the last is not there."""
    recording(tmp_path / "sounds" / "a.wav", 1)
    lines = [
        {"audio": "sounds/a.wav", "prompt": "Name a bird.", "output": "A wren."},
        {"audio": "sounds/a.wav", "prompt": "Name a fish."},
        {"audio": "sounds/none.wav", "prompt": "Name a cat."},
    ]
    (tmp_path / "commoneval").mkdir()
    (tmp_path / "commoneval" / "mine.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    suite = open_suite("voicebench", tmp_path, "commoneval")
    assert isinstance(suite, TextSuite)
    assert (suite.coverage.present, suite.coverage.named) == (2, 3)
    assert "sounds/none.wav" in str(suite.coverage)
    scores = suite.score_answers([0, 1], ["A wren.", "A pike."])
    assert (scores["chrf"].value, scores["chrf"].count) == (pytest.approx(1.0), 1)
    assert "stand-in" in suite.notes["chrf"]
    assert suite.predictions([]) == []


def test_what_is_missing_is_counted_and_never_scored(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, "openbookqa", lost=0)
    assert (suite.coverage.present, suite.coverage.named, suite.items[0].reference) == (1, 2, "night")
    assert "test 0 (row 0 has no recording)" in str(suite.coverage)
    parts = suite_of(tmp_path, "sd-qa")
    (tmp_path / "sd-qa" / "usa-00000-of-00001.parquet").rename(tmp_path / "sd-qa" / "zzz-00001-of-00002.parquet")
    parts = open_suite("voicebench", tmp_path, "sd-qa")
    assert {name.split(" ")[0] for name in parts.coverage.missing} == {
        "sd-qa/usa-*.parquet",
        "sd-qa/zzz-00000-of-00002.parquet",
    }


def test_an_instruction_that_cannot_be_checked_is_left_out_and_named(tmp_path: Path) -> None:
    ask = {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "de"}], "prompt": "Hello?"}
    recording(tmp_path / "a.wav", 1)
    (tmp_path / "ifeval").mkdir()
    file = tmp_path / "ifeval" / "test.jsonl"
    file.write_text(json.dumps({**ask, "audio": "a.wav"}))
    assert "language:response_language cannot be checked" in str(open_suite("voicebench", tmp_path, "ifeval").coverage)
    ask["instruction_id_list"] = ["length_constraints:number_words"]
    file.write_text(json.dumps({**ask, "audio": "a.wav"}))
    with pytest.raises(ManifestError, match=r"num_words of length_constraints:number_words is None, expected a number"):
        open_suite("voicebench", tmp_path, "ifeval")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"audio": 3}, "line 1: expected an object with the path of a recording"),
        ({"audio": "a.wav", "prompt": " ", "reference": "A"}, "question 0: prompt is ' ', expected text"),
        ({"audio": "a.wav", "prompt": FALLS, "reference": "E"}, "reference is 'E', expected Yes, No, or a letter"),
        ({"audio": "../a.wav", "prompt": FALLS, "reference": "A"}, "leads out of the folder"),
    ],
)
def test_a_question_that_is_none_is_refused(line: dict[str, object], reason: str, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav", 1)
    (tmp_path / "openbookqa").mkdir()
    (tmp_path / "openbookqa" / "test.jsonl").write_text(json.dumps(line))
    with pytest.raises(ManifestError, match=re.escape(reason)):
        open_suite("voicebench", tmp_path)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"holds no table \(\*\.parquet, \*\.jsonl\) of openbookqa"):
        open_suite("voicebench", tmp_path)
    suite = suite_of(tmp_path, "openbookqa")
    table = next((tmp_path / "openbookqa").glob("*.parquet"))
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(ManifestError, match="not a whole Parquet file"):
        open_suite("voicebench", tmp_path)
    with pytest.raises(AudioError, match="not a whole Parquet file"):
        suite.scenario(0)
    assert len(TIERS) == 10
