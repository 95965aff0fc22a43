"""Built-in speech: the same words are the same samples everywhere, and it is known when each is said."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.errors import SpeechError
from envs.speech.espeak import Espeak, say
from envs.speech.knowledge import ask, spoken_number
from envs.speech.phrases import draw_phrase
from envs.speech.utterance import Voice

ROOT = Path(__file__).parents[2]


def test_the_same_words_are_the_same_samples_in_any_process_and_order() -> None:
    code = (
        "import hashlib\n"
        "from envs.speech.espeak import say\n"
        "say('Something else first.')\n"
        "print(hashlib.sha256(say('Where is the hotel?').audio.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    import hashlib

    assert there.stdout.strip() == hashlib.sha256(say("Where is the hotel?").audio.tobytes()).hexdigest()


def test_every_voice_that_is_drawn_is_the_same_in_two_processes() -> None:
    """Three of espeak-ng's own variants are not: what they hold differs from process to process."""
    code = (
        "import hashlib\n"
        "from envs.speech.espeak import _NAMES, _VARIANTS, say\n"
        "from envs.speech.utterance import Voice\n"
        "for language, names in _NAMES.items():\n"
        "    for name in [f'{accent}+{variant}' for accent in names for variant in _VARIANTS]:\n"
        "        audio = say({'en': 'Where is the hotel?', 'zh': '酒店在哪里'}[language], Voice(name, 150, 40)).audio\n"
        "        print(name, hashlib.sha256(audio.tobytes()).hexdigest())"
    )
    one, other = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(2)
    )
    assert len(one.splitlines()) > 50
    assert one == other


def test_speech_is_loud_enough_and_as_long_as_its_words() -> None:
    short, long = say("Yes."), say("My brother is waiting at the train station tomorrow.")
    for utterance in (short, long):
        assert utterance.audio.dtype == np.float32
        assert 0.1 < np.abs(utterance.audio).max() <= 1.0
    assert 0.2 < short.seconds < 1.5 < long.seconds < 6.0


def test_words_have_their_moments() -> None:
    utterance = say("My brother is waiting at the train station.")
    assert [word.text for word in utterance.words] == "My brother is waiting at the train station".split()
    starts = [word.start_s for word in utterance.words]
    assert starts == sorted(starts)
    assert all(0 <= word.start_s < word.end_s <= utterance.seconds for word in utterance.words)
    last = utterance.words[-1]
    heard = utterance.audio[int(last.start_s * 16_000) :]
    assert np.square(heard).mean() > 1e-4, "the last word is said where its moment is"


def test_voices_differ_and_speak_both_languages() -> None:
    source, rng = Espeak(), np.random.default_rng(0)
    english = {source.voice(rng, "en") for _ in range(20)}
    assert len(english) > 15
    one, other = (say("Good morning.", voice) for voice in list(english)[:2])
    assert one.audio.shape != other.audio.shape or (one.audio != other.audio).any()
    chinese = source.translated(rng, "zh")
    assert chinese.translation.isascii()
    assert not chinese.text.isascii()
    assert chinese.seconds > 0.5


def test_what_cannot_be_spoken_is_named() -> None:
    with pytest.raises(SpeechError, match="no voice 'nope'"):
        say("Hello.", Voice("nope"))
    with pytest.raises(SpeechError, match="silent"):
        say("")
    assert say("Hello.").seconds > 0.2, "the next request is answered as before"


def test_a_missing_library_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError('not here')\n")
    code = (
        "from envs.errors import SpeechError\n"
        "from envs.speech.espeak import say\n"
        "try: say('Hello.')\n"
        "except SpeechError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert "uv sync --extra speech" in done.stdout


def test_questions_and_phrases_are_many_and_answer_themselves() -> None:
    rng = np.random.default_rng(0)
    questions = [ask(rng) for _ in range(300)]
    assert len({question.text for question in questions}) > 100
    for question in questions:
        for reply in question.replies:
            said = [any(part.lower() in reply.lower() for part in fact.split("|")) for fact in question.facts]
            assert all(said), (question, reply)
    phrases = [draw_phrase(rng) for _ in range(300)]
    assert len({phrase.english for phrase in phrases}) > 150
    for phrase in phrases:
        assert "{" not in phrase.english + phrase.chinese
        assert all(fact in phrase.chinese for fact in phrase.chinese_facts)
        assert all(fact in phrase.english for fact in phrase.english_facts)
    assert [spoken_number(n) for n in (0, 13, 20, 99)] == ["zero", "thirteen", "twenty", "ninety nine"]
