"""Turns in sound: what the two detectors take for speech."""

import numpy as np
import pytest

from envs.speech.espeak import say
from policies.server.turns import Boundary, ServerVAD, TurnDetector, VADKind
from tests.policies.conftest import noise

SILENCE = np.zeros(16_000, np.float32)


def turns(sound: np.ndarray, kind: VADKind, pieces: int = 1) -> list[Boundary]:
    detector = TurnDetector(ServerVAD(prefix_padding_ms=0), 0, kind)
    return [boundary for piece in np.array_split(sound, pieces) for boundary in detector.push(piece)]


@pytest.mark.parametrize("kind", ["energy", "silero"])
def test_a_spoken_word_is_a_turn_however_it_is_cut(kind: VADKind) -> None:
    word = say("Elephant").audio
    found = turns(np.concatenate((SILENCE, word, SILENCE)), kind)
    assert [boundary.kind for boundary in found] == ["started", "stopped"]
    assert found[0].at == pytest.approx(16_000, abs=3_200)
    assert found[1].at == pytest.approx(16_000 + len(word) + 8_000, abs=4_800)
    assert turns(np.concatenate((SILENCE, word, SILENCE)), kind, pieces=7) == found


def test_silero_tells_noise_from_voices_and_loudness_does_not() -> None:
    hiss = np.concatenate((SILENCE, noise(0, 5), SILENCE))
    assert turns(hiss, "silero") == []
    assert [boundary.kind for boundary in turns(hiss, "energy")] == ["started", "stopped"]
