"""Suites of recordings that are answered by a text: read as released, streamed, scored, and what is missing named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_speech_suites import (
    COVOST2,
    LIBRISPEECH,
    MMAU,
    mmau_item,
    write_covost2,
    write_librispeech,
    write_mmau,
)

from envs.audio import read_audio
from envs.errors import ManifestError, ScenarioError
from envs.suites import OfflineSuite
from envs.suites.catalogue import open_suite
from envs.suites.text_suite import TALK_S, TextSuite
from envs.trace import Reply, Trace


def suite_of(name: str, folder: Path, tier: str | None = None) -> TextSuite:
    suite = open_suite(name, folder, tier)
    assert isinstance(suite, TextSuite)
    assert isinstance(suite, OfflineSuite)
    return suite


def traces_of(suite: TextSuite, *said: tuple[str, ...]) -> list[Trace]:
    """Return what an agent said in each stream, reply after reply."""
    replies = [[Reply(i + 1.0, i + 1.5, text, 3) for i, text in enumerate(texts)] for texts in said]
    streams = [suite.scenario(seed) for seed in suite.seeds]
    return [
        Trace(s.seed, s.ability, s.num_chunks, s.cues, s.events, replies=r)
        for s, r in zip(streams, replies, strict=True)
    ]


def test_librispeech_is_streamed_as_it_was_recorded(tmp_path: Path) -> None:
    suite = suite_of("librispeech", write_librispeech(tmp_path))
    assert (suite.coverage.named, suite.coverage.complete) == (2, True)
    stream, heard = suite.scenario(0), read_audio(suite.folder / suite.items[0].path)
    np.testing.assert_array_equal(stream.audio[: len(heard)], heard)
    assert not stream.audio[len(heard) :].any()
    assert stream.duration_s == pytest.approx(1.2 + TALK_S)
    assert stream.cues[0].replies == (LIBRISPEECH["61-70968-0000"],)
    assert stream.cues[0].ready_s == pytest.approx(0.9)
    question = suite.question(0)
    np.testing.assert_array_equal(question.audio, heard)
    assert question.instruction


def test_the_word_error_rate_is_of_all_that_a_stream_said(tmp_path: Path) -> None:
    """Five words with one wrong and one missing, said in two replies; then two words and one too many."""
    suite = suite_of("librispeech", write_librispeech(tmp_path))
    traces = traces_of(suite, ("he begun", "a course."), ("Don't go!", "now"))
    scores = suite.score(traces)
    assert scores["wer"].value == pytest.approx(3 / 7)
    assert suite.score_answers([0, 1], ["he begun a course", "dont go now"]) == scores
    assert "lower case" in suite.notes["wer"]
    assert suite.predictions(traces) == [
        {"id": "61-70968-0000", "reference": "HE BEGAN A COURSE TODAY", "text": "he begun a course."},
        {"id": "61-70968-0001", "reference": "DON'T GO", "text": "Don't go! now"},
    ]


def test_a_tier_is_another_test_set(tmp_path: Path) -> None:
    folder = write_librispeech(tmp_path)
    suite = suite_of("librispeech", folder / "LibriSpeech", "test-other")  # named itself, or its parent
    assert {item.path.split("/")[0] for item in suite.items} == {"test-other"}
    with pytest.raises(ScenarioError, match=r"--tier: librispeech has none .* 'test-clea'; did you mean 'test-clean'"):
        open_suite("librispeech", folder, "test-clea")
    with pytest.raises(ManifestError, match="holds no speech in the layout of librispeech"):
        open_suite("librispeech", folder / "LibriSpeech" / "test-other" / "61")


@pytest.mark.parametrize(
    ("name", "write", "lost"),
    [
        ("librispeech", write_librispeech, "LibriSpeech/test-clean/61/70968/61-70968-0001.flac"),
        ("covost2", write_covost2, "en/clips/common_voice_en_2.mp3"),
    ],
)
def test_missing_audio_is_counted_against_coverage_and_never_scored(
    name: str, write: Callable[[Path], Path], lost: str, tmp_path: Path
) -> None:
    (write(tmp_path) / lost).unlink()
    suite = suite_of(name, tmp_path)
    assert (suite.coverage.named, suite.coverage.present, list(suite.seeds)) == (2, 1, [0])
    assert Path(lost).name in str(suite.coverage)
    perfect = suite.items[0].reference
    first = next(iter(suite.score(traces_of(suite, (perfect,))).values()))
    assert first.value in (0.0, pytest.approx(100.0))


@pytest.mark.parametrize(
    ("name", "write", "spoilt"),
    [
        ("librispeech", write_librispeech, "LibriSpeech/test-clean/61/70968/61-70968-0001.flac"),
        ("covost2", write_covost2, "en/clips/common_voice_en_2.mp3"),
        ("mmau", write_mmau, "test-mini-audios/b.wav"),
    ],
)
def test_audio_that_cannot_be_read_is_counted_as_what_is_missing(
    name: str, write: Callable[[Path], Path], spoilt: str, tmp_path: Path
) -> None:
    (write(tmp_path) / spoilt).write_bytes(b"no sound" * 100)
    coverage = suite_of(name, tmp_path).coverage
    assert len(coverage.missing) == 1
    assert f"{Path(spoilt).name}: not audio that can be decoded" in coverage.missing[0]


def test_a_chapter_that_is_gone_with_its_transcript_is_told_by_the_releases_count(tmp_path: Path) -> None:
    for tier, released in (("test-clean", 2620), ("test-other", 2939)):
        coverage = suite_of("librispeech", write_librispeech(tmp_path), tier).coverage
        assert coverage.complete
        assert str(coverage).endswith(f"; 2 of {released} released recordings are named")


def test_covost2_is_scored_by_the_bleu_of_its_signature(tmp_path: Path) -> None:
    """Four characters and a stop of which all but one are right, then nothing: counts of both lie in one corpus."""
    suite = suite_of("covost2", write_covost2(tmp_path))
    assert [item.reference for item in suite.items] == [meant for _, meant in COVOST2.values()]
    assert "Chinese" in suite.question(0).instruction
    traces = traces_of(suite, ("今天", "下雪。"), ())
    bleu = suite.score(traces)["bleu"]
    # 5 of our tokens against 5 + 3: 4/5, 2/4 (今天 天下), 1/3, and 1/2 of a count smoothed for none of 2 (exp)
    expected = 100 * np.exp(1 - 8 / 5) * (4 / 5 * 2 / 4 * 1 / 3 * (1 / 2) / 2) ** 0.25
    assert bleu.value == pytest.approx(expected)
    assert "|tok:zh|" in suite.notes["bleu"]
    assert "|version:" in suite.notes["bleu"]
    assert suite.predictions(traces)[0]["translation"] == "今天下雪。"
    with pytest.raises(ManifestError, match=r"no covost_v2\.zh-CN_en\.test\.tsv"):
        open_suite("covost2", tmp_path, "zh-CN_en")


def test_nothing_played_is_no_score(tmp_path: Path) -> None:
    suite = suite_of("librispeech", write_librispeech(tmp_path))
    with pytest.raises(ScenarioError, match="no item of librispeech was played"):
        suite.score([])


def test_mmau_counts_choices_by_task_and_difficulty(tmp_path: Path) -> None:
    """Right in words, right by letter, and one that cannot be told."""
    suite = suite_of("mmau", write_mmau(tmp_path))
    answers = ["It is a woman.", "(A)", "A guitar or a piano."]
    scores = suite.score_answers(suite.seeds, answers)
    assert {name: (metric.value, metric.count) for name, metric in scores.items()} == {
        "accuracy": (pytest.approx(2 / 3), 3),
        "accuracy: difficulty easy": (1.0, 1),
        "accuracy: difficulty hard": (0.5, 2),
        "accuracy: task music": (0.0, 1),
        "accuracy: task sound": (1.0, 2),
        "decided": (pytest.approx(2 / 3), 3),
    }
    assert suite.question(0).instruction == "What is heard? Choose one: (A) Man (B) Woman (C) Child"
    lines = suite.predictions(traces_of(suite, ("a woman",), (), ()))
    assert lines[0] == {**mmau_item(*MMAU[0]), "model_prediction": "a woman"}


def test_mmau_asks_aloud_after_the_recording(tmp_path: Path) -> None:
    suite = suite_of("mmau", write_mmau(tmp_path))
    stream = suite.scenario(0)
    heard, asked = stream.events
    assert asked.label == "What is heard? Man, Woman, or Child?"
    assert (heard.end_s, asked.onset_s) == pytest.approx((0.9, 1.7))
    assert np.abs(stream.audio[round(asked.onset_s * 16_000) : round(asked.end_s * 16_000)]).max() > 0.05
    assert stream.cues[0].ready_s == pytest.approx(asked.end_s)
    assert not stream.audio[round(asked.end_s * 16_000) :].any()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "Robot"}, r"line 2: answer is 'Robot', expected one of the choices"),
        ({"choices": "Man"}, r"choices is 'Man', expected a list of texts"),
        ({"question": " "}, r"question is ' ', expected text"),
        ({"audio_id": "../secret.wav"}, r"leads out of the folder"),
    ],
)
def test_a_question_that_is_none_of_mmaus_is_refused(change: dict[str, object], reason: str, tmp_path: Path) -> None:
    write_mmau(tmp_path)
    item = {**mmau_item(*MMAU[0]), **change}
    (tmp_path / "mmau-test-mini.json").write_text(f"[\n{json.dumps(item)}]", encoding="utf-8")
    with pytest.raises(ManifestError, match=reason):
        open_suite("mmau", tmp_path)
