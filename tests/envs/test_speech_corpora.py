"""Published corpora of speech, each on a tiny tree in exactly the layout that it is published in."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from envs.abilities import AbilityScenarios
from envs.abilities.world import World
from envs.errors import ManifestError, SpeechError
from envs.foley import Foley
from envs.records import BrokenRecord, BrokenRecordsWarning
from envs.speech.corpora import SPEECH_LAYOUTS, RecordedSpeech, read_speech

SPOKEN_S, PAUSE_S = 1.2, 0.3  # what a recording has of either, the pause at both ends


def recording(path: Path, seed: int = 0, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    spoken = np.random.default_rng(seed).uniform(-0.3, 0.3, round(SPOKEN_S * rate))
    pause = np.zeros(round(PAUSE_S * rate))
    sf.write(path, np.concatenate((pause, spoken, pause)).astype(np.float32), rate)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def librispeech(folder: Path) -> None:
    text(folder / "SPEAKERS.TXT", "; ID |SEX| SUBSET |MINUTES| NAME", "84 | F | dev-clean | 8.02 | Christie Nowak")
    chapters = {"dev-clean/84/121123": ("GO DO YOU HEAR", "BUT IN LESS"), "test-clean/61/70968": ("HE BEGAN A COURSE",)}
    for chapter, sentences in chapters.items():
        name = "-".join(chapter.split("/")[1:])
        lines = [f"{name}-{i:04d} {said}" for i, said in enumerate(sentences)]
        text(folder / chapter / f"{name}.trans.txt", *lines)
        for i in range(len(lines)):
            recording(folder / chapter / f"{name}-{i:04d}.flac", i)


_CV_HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\tlocale\tsegment"


def common_voice(folder: Path) -> None:
    rows = {
        "en": ('ann\tcommon_voice_en_1.mp3\t"Isn\'t it?" she asked.', "bob\tcommon_voice_en_2.mp3\tYes, it is."),
        "zh-CN": ("li\tcommon_voice_zh-CN_3.mp3\t你好，世界。",),
    }
    for language, sentences in rows.items():
        lines = [f"{row}\t2\t0\t\t\t\t{language}\t" for row in sentences]
        text(folder / language / "train.tsv", _CV_HEADER, lines[0])
        text(folder / language / "validated.tsv", _CV_HEADER, *lines)
        for line in lines:
            recording(folder / language / "clips" / line.split("\t")[1], len(line), 48_000)


def covost2(folder: Path) -> None:
    common_voice(folder)
    header = "path\tsentence\ttranslation\tclient_id"
    english = 'common_voice_en_1.mp3\t"Isn\'t it?" she asked.'
    text(folder / "en" / "covost_v2.en_zh-CN.train.tsv", header, f"{english}\t“不是吗？”她问道。\tann")
    text(folder / "en" / "covost_v2.en_de.train.tsv", header, f"{english}\t„Nicht wahr?“, fragte sie.\tann")
    chinese = "common_voice_zh-CN_3.mp3\t你好，世界。\tHello, world.\tli"
    text(folder / "zh-CN" / "covost_v2.zh-CN_en.test.tsv", header, chinese)


def aishell1(folder: Path) -> None:
    home = folder / "data_aishell"
    text(
        home / "transcript" / "aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市 成交",
        "BAC009S0764W0121 甚至 出现 交易",
    )
    for name in ("train/S0002/BAC009S0002W0122", "test/S0764/BAC009S0764W0121", "train/S0002/BAC009S0002W0500"):
        recording(home / "wav" / f"{name}.wav", len(name))  # the last has no transcript, as some published ones


TREES = {
    "librispeech": (librispeech, {("84", "en", "dev-clean"), ("61", "en", "test-clean")}),
    "common_voice": (common_voice, {("ann", "en", "train"), ("bob", "en", "validated"), ("li", "zh", "train")}),
    "covost2": (covost2, {("ann", "en", "train"), ("li", "zh", "test")}),
    "aishell1": (aishell1, {("S0002", "zh", "train"), ("S0764", "zh", "test")}),
}
BOTH = pytest.mark.parametrize("layout", sorted(TREES))


def test_every_layout_has_its_tree() -> None:
    assert set(TREES) == set(SPEECH_LAYOUTS)


@BOTH
def test_a_corpus_is_read_in_its_own_layout(layout: str, tmp_path: Path) -> None:
    build, expected = TREES[layout]
    build(tmp_path)
    rows = read_speech(tmp_path, layout)
    assert not [row for row in rows if isinstance(row, BrokenRecord)]
    columns = [row.columns for row in rows if not isinstance(row, BrokenRecord)]
    assert {(c["speaker"], c["language"], c["split"]) for c in columns} == expected
    for split in {c["split"] for c in columns}:
        assert 0 < len(read_speech(tmp_path, layout, split)) < len(rows)
    with pytest.raises(ManifestError, match=r"has no split 'tran'"):
        read_speech(tmp_path, layout, "tran")


@BOTH
def test_a_folder_of_another_kind_is_refused(layout: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=str(tmp_path)):
        read_speech(tmp_path, layout)
    with pytest.raises(ManifestError, match="no such folder"):
        read_speech(tmp_path / "none", layout)


def test_texts_and_translations_are_those_of_the_tables(tmp_path: Path) -> None:
    covost2(tmp_path)
    speech, rng = RecordedSpeech(tmp_path, "covost2"), np.random.default_rng(0)
    there, back = speech.translated(rng, "en"), speech.translated(rng, "zh")
    assert (there.text, there.translation, there.speaker) == ('"Isn\'t it?" she asked.', "“不是吗？”她问道。", "ann")
    assert (back.text, back.translation, back.speaker) == ("你好，世界。", "Hello, world.", "li")
    assert [word.text for word in there.words] == ["Isn't", "it", "she", "asked"]
    assert [word.text for word in back.words] == list("你好世界")
    aishell1(tmp_path)
    chinese = RecordedSpeech(tmp_path, "aishell1", "train").sentence(rng, "zh")
    assert (chinese.text, chinese.speaker) == ("而对楼市成交", "S0002")


def test_words_lie_over_the_spoken_part_by_their_characters(tmp_path: Path) -> None:
    librispeech(tmp_path)
    utterance = RecordedSpeech(tmp_path, "librispeech", "test-clean").sentence(np.random.default_rng(0), "en")
    assert utterance.seconds == pytest.approx(SPOKEN_S, abs=0.02), "the pauses at both ends are cut off"
    assert [word.text for word in utterance.words] == ["HE", "BEGAN", "A", "COURSE"]
    lengths = [word.end_s - word.start_s for word in utterance.words]
    assert lengths == pytest.approx([utterance.seconds * n / 14 for n in (2, 5, 1, 6)])
    assert utterance.words[0].start_s == 0.0
    assert utterance.words[-1].end_s == pytest.approx(utterance.seconds)


def test_speakers_are_drawn_in_balance(tmp_path: Path) -> None:
    """One speaker has read 30 sentences, the other 2."""
    for speaker, count in (("1", 30), ("2", 2)):
        chapter = tmp_path / "train-clean-100" / speaker / "9"
        text(chapter / f"{speaker}-9.trans.txt", *(f"{speaker}-9-{i:04d} WORD" for i in range(count)))
        for i in range(count):
            recording(chapter / f"{speaker}-9-{i:04d}.flac", i)
    speech, rng = RecordedSpeech(tmp_path, "librispeech"), np.random.default_rng(0)
    drawn = Counter(speech.sentence(rng, "en").speaker for _ in range(60))
    assert 20 < drawn["1"] < 40


def test_what_is_worded_is_synthesised_and_what_is_missing_is_named(tmp_path: Path) -> None:
    librispeech(tmp_path)
    speech, rng = RecordedSpeech(tmp_path, "librispeech"), np.random.default_rng(0)
    assert speech.say("Good morning.", speech.voice(rng, "en")).seconds > 0.3
    with pytest.raises(SpeechError, match="no utterance of 'zh', only of en"):
        speech.sentence(rng, "zh")
    with pytest.raises(SpeechError, match="no utterance of 'en to zh'"):
        speech.translated(rng, "en")
    with pytest.raises(ManifestError, match="did you mean 'librispeech'"):
        RecordedSpeech(tmp_path, "libri_speech")


@pytest.mark.parametrize(("ability", "sub_task"), [("SpeechRecognition", "clean"), ("Translation", "zh_en")])
def test_abilities_speak_with_recordings(ability: str, sub_task: str, tmp_path: Path) -> None:
    covost2(tmp_path)
    scenarios = AbilityScenarios(ability, World(Foley(), RecordedSpeech(tmp_path, "covost2")), sub_task)
    scenario, again = scenarios(3), pickle.loads(pickle.dumps(scenarios))(3)
    np.testing.assert_array_equal(scenario.audio, again.audio)
    assert scenario.cues == again.cues
    assert all(cue.onset_s < cue.ready_s < cue.deadline_s for cue in scenario.cues)
    said = {reply for cue in scenario.cues for reply in cue.replies}
    assert said & {"Hello, world.", "Isn't", "Isn't it"}


def test_broken_utterances_are_named_when_read_or_drawn(tmp_path: Path) -> None:
    librispeech(tmp_path)
    chapter = tmp_path / "dev-clean" / "84" / "121123"
    table = chapter / "84-121123.trans.txt"
    (chapter / "84-121123-0001.flac").unlink()
    with pytest.raises(ManifestError, match=r"84-121123\.trans\.txt, line 2: path '.*0001\.flac' names no file.* of 3"):
        RecordedSpeech(tmp_path, "librispeech")
    with pytest.warns(BrokenRecordsWarning, match="left out: 1 of 3 records"):
        speech = RecordedSpeech(tmp_path, "librispeech", allow_broken=0.5)
    (chapter / "84-121123-0000.flac").write_text("no sound")
    with pytest.raises(ManifestError, match=r"line 2: .* 2 of 3 records .* cannot be used"):  # noqa: PT012 - until met
        for seed in range(20):
            speech.sentence(np.random.default_rng(seed), "en")
    with pytest.warns(BrokenRecordsWarning):
        speech = RecordedSpeech(tmp_path, "librispeech", allow_broken=0.7)
    with pytest.warns(BrokenRecordsWarning, match=r"trans\.txt, line 1: .*0000\.flac: not audio"):
        drawn = {speech.sentence(np.random.default_rng(seed), "en").speaker for seed in range(10)}
    assert drawn == {"61"}
    assert {(record.file, record.line) for record in speech.broken} == {(table, 1), (table, 2)}
    text(table, "84-121123-0000", "../../../../etc/passwd WORDS")
    with pytest.raises(ManifestError, match=r"line 2: path .* leads out of the folder"):
        RecordedSpeech(tmp_path, "librispeech", allow_broken=1.0)


def test_silence_is_no_speech(tmp_path: Path) -> None:
    librispeech(tmp_path)
    sf.write(tmp_path / "test-clean" / "61" / "70968" / "61-70968-0000.flac", np.zeros(16_000), 16_000)
    speech = RecordedSpeech(tmp_path, "librispeech", "test-clean")
    with pytest.raises(ManifestError, match="holds nothing but silence"):
        speech.sentence(np.random.default_rng(0), "en")
