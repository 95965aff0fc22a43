"""The built-in sounds: each renders within its bounds, varies, repeats, and has the acoustics that name it."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.clock import SAMPLE_RATE
from envs.errors import ScenarioError
from envs.foley import Foley, render
from envs.scenario import Audio
from envs.sound_classes import SOUND_CLASSES, answer_for

LABELS = sorted(SOUND_CLASSES)
ANSWERS = {label: sound.answer for label, sound in SOUND_CLASSES.items() if sound.answer is not None}
MANIFEST = Path(__file__).parents[3] / "shared" / "audio" / "manifest.csv"
SEEDS = range(8)


def sound(label: str, seed: int) -> Audio:
    return render(label, np.random.default_rng(seed))


def power(x: Audio) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE), np.abs(np.fft.rfft(x)) ** 2


def centroid(x: Audio) -> float:
    f, p = power(x)
    return float(np.sum(f * p) / np.sum(p))


def dominant_hz(x: Audio) -> float:
    f, p = power(x)
    return float(f[np.argmax(p * (f > 100))])


def envelope(x: Audio, frame_s: float = 0.01) -> np.ndarray:
    m = int(frame_s * SAMPLE_RATE)
    return np.sqrt(np.mean(np.square(x[: len(x) // m * m]).reshape(-1, m), axis=1))


def bursts(x: Audio) -> int:
    """Count sudden rises: at least 8 dB over 30 ms, to at least a fifth of the loudest, 0.2 s apart."""
    level = envelope(x)
    padded = np.concatenate([np.zeros(4), level])
    rises = np.flatnonzero((level > 2.5 * padded[:-4][: len(level)] + 1e-6) & (level > 0.2 * level.max()))
    count, last = 0, -100
    for frame in rises:
        if frame - last > 20:
            count, last = count + 1, int(frame)
    return count


def flatness(x: Audio, low: float, high: float) -> float:
    """Geometric over arithmetic mean of the spectrum (about 100 Hz a band): near 1 for even noise."""
    f, p = power(x)
    edges = np.arange(low, high, 100.0)
    levels = np.array([p[(f >= a) & (f < a + 100.0)].mean() for a in edges])
    return float(np.exp(np.mean(np.log(levels + 1e-20))) / levels.mean())


def median(label: str, measure) -> float:
    return float(np.median([measure(sound(label, seed)) for seed in SEEDS]))


@pytest.mark.parametrize("label", LABELS)
def test_every_class_renders_within_its_bounds(label: str) -> None:
    for seed in range(3):
        x = sound(label, seed)
        assert x.dtype == np.float32
        assert x.ndim == 1
        assert np.isfinite(x).all()
        assert 0.3 <= len(x) / SAMPLE_RATE <= 6.0
        assert 0.05 < np.abs(x).max() <= 1.0
        assert x[0] == 0.0
        assert x[-1] == 0.0
        assert np.abs(x[:16]).max() < 0.25 * np.abs(x).max()


@settings(max_examples=30, deadline=None)
@given(label=st.sampled_from(LABELS), seed=st.integers(0, 2**31 - 2))
def test_a_seed_repeats_and_the_next_one_differs(label: str, seed: int) -> None:
    first, again, other = sound(label, seed), sound(label, seed), sound(label, seed + 1)
    assert first.tobytes() == again.tobytes()
    n = min(len(first), len(other))
    assert abs(np.corrcoef(first[:n], other[:n])[0, 1]) < 0.9


def test_smoke_alarm_is_a_high_tone_that_goes_on_and_off() -> None:
    for seed in SEEDS:
        x = sound("smoke_alarm", seed)
        assert 2500 < dominant_hz(x) < 4000
        level = envelope(x)
        assert np.mean(level > 0.5 * level.max()) > 0.15
        assert np.mean(level < 0.3 * level.max()) > 0.15


def test_a_coughing_fit_has_at_least_three_coughs_and_a_single_cough_one() -> None:
    assert min(bursts(sound("cough_fit", seed)) for seed in SEEDS) >= 3
    assert median("cough_single", bursts) == 1


def test_siren_sweeps() -> None:
    for seed in SEEDS:
        x = sound("siren", seed)
        frames = x[: len(x) // 1600 * 1600].reshape(-1, 1600) * np.hanning(1600)
        f = np.fft.rfftfreq(1600, 1 / SAMPLE_RATE)
        pitch = f[np.argmax(np.abs(np.fft.rfft(frames)) * (f > 300), axis=1)]
        assert np.percentile(pitch, 90) > 1.25 * np.percentile(pitch, 10)


def test_rain_is_even_noise_and_a_note_is_not() -> None:
    assert median("rain", lambda x: flatness(x, 1000, 3500)) > 0.75
    assert median("note", lambda x: flatness(x, 1000, 3500)) < 0.3


def test_what_is_low_is_low_and_what_is_bright_is_bright() -> None:
    assert median("thunder", centroid) < 900
    assert median("blast", centroid) < 1000
    assert median("glass_break", centroid) > 2500
    assert median("bird", centroid) > 2000
    assert median("cow", centroid) < 1000


def test_a_babys_cry_is_voiced_at_a_babys_pitch() -> None:
    """The autocorrelation of its loudest 60 ms peaks at a period of 250-850 Hz (the pitch moves)."""
    clear = 0
    for seed in SEEDS:
        x = sound("baby_cry", seed)
        at = int(np.argmax(envelope(x, 0.06))) * 960
        spectrum = np.abs(np.fft.rfft(x[at : at + 960], 4096)) ** 2
        r = np.fft.irfft(spectrum)
        lags = np.arange(19, 64)
        clear += r[lags].max() > 0.5 * r[0]
    assert clear >= 6


def test_clock_ticks_and_footsteps_come_one_by_one() -> None:
    assert median("clock_tick", bursts) >= 3
    assert median("footsteps", bursts) >= 2
    assert median("fan", bursts) <= 2


def test_foley_draws_clips_of_the_decision() -> None:
    foley, rng = Foley(), np.random.default_rng(0)
    assert foley.labels == tuple(LABELS)
    for decision in ("RESPOND", "IGNORE"):
        assert foley.has(decision)
        clips = [foley.draw(rng, decision) for _ in range(12)]
        assert {clip.decision for clip in clips} == {decision}
        assert len({clip.label for clip in clips}) > 4
        assert all(bool(clip.answers) == (decision == "RESPOND") for clip in clips)
        assert all(clip.origin == "foley" for clip in clips)
    assert foley.draw(rng, "RESPOND", "siren").label == "siren"


def test_a_wrong_label_is_named_with_its_nearest() -> None:
    with pytest.raises(ScenarioError, match=r"'sirren'.*did you mean 'siren'"):
        render("sirren", np.random.default_rng(0))
    with pytest.raises(ScenarioError, match=r"'sirren'.*did you mean 'siren'"):
        Foley().draw(np.random.default_rng(0), "RESPOND", "sirren")
    with pytest.raises(ScenarioError, match="'rain' is IGNORE, not RESPOND"):
        Foley().draw(np.random.default_rng(0), "RESPOND", "rain")


@pytest.mark.parametrize("label", sorted(ANSWERS))
def test_every_reference_states_its_key_facts_in_a_few_words(label: str) -> None:
    answer = ANSWERS[label]
    assert len(set(answer.replies)) == 3
    assert answer.key_facts
    for reply in answer.replies:
        assert 6 <= len(reply.split()) <= 14, reply
        for fact in answer.key_facts:
            assert re.search(rf"\b({fact})", reply, re.IGNORECASE), f"{fact!r} is not in {reply!r}"
    assert 0.5 <= answer.urgency <= 1.0
    assert 0.4 <= answer.evidence_s <= 2.0
    pairs = {"i": "distress", "ii": "natural_hazard", "iii": "equipment_or_fire", "iv": "safety_signal"}
    assert answer.sub_task == pairs[answer.criterion]


def test_the_catalogue_covers_every_reason_to_speak() -> None:
    assert {answer.criterion for answer in ANSWERS.values()} == {"i", "ii", "iii", "iv"}
    assert len(ANSWERS) >= 12
    assert len(SOUND_CLASSES) - len(ANSWERS) >= 16


def test_an_answer_for_ones_own_label_follows_from_its_caption() -> None:
    assert answer_for("siren", "whatever", "Traffic") is ANSWERS["siren"]
    own = answer_for("tap_dance", "someone is choking on water.", "Human Sound Signals")
    assert own.replies[0] == "I hear that someone is choking on water. Please check on it."
    assert own.key_facts == ("chok", "water")
    assert own.criterion == "i"
    assert (own.urgency, own.evidence_s) == (0.8, 1.0)
    bare = answer_for("gas_leak", "", "Equipment")
    assert "gas leak" in bare.replies[0]
    assert bare.key_facts == ("gas", "leak")


@settings(max_examples=50, deadline=None)
@given(caption=st.text(max_size=40))
def test_a_derived_answer_always_states_its_own_facts(caption: str) -> None:
    answer = answer_for("my_sound", caption, "")
    assert answer.key_facts
    for reply in answer.replies:
        assert all(fact in reply.lower() for fact in answer.key_facts)


@pytest.mark.skipif(not MANIFEST.exists(), reason="the shared recordings are not here")
def test_labels_mean_what_they_mean_in_the_recordings() -> None:
    with MANIFEST.open(newline="") as file:
        recorded = {row["label"]: row for row in csv.DictReader(file)}
    shared = set(recorded) & set(SOUND_CLASSES)
    assert len(shared) > 20
    for label in shared:
        ours = SOUND_CLASSES[label]
        assert (ours.decision, ours.domain) == (recorded[label]["decision"], recorded[label]["domain"]), label
