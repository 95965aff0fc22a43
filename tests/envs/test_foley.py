"""The built-in sounds: bounds, repeatability, and the acoustic facts that make a sound what it is."""

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
RESPOND = [label for label in LABELS if SOUND_CLASSES[label].decision == "RESPOND"]
IGNORE = [label for label in LABELS if SOUND_CLASSES[label].decision == "IGNORE"]
SEEDS = range(8)
MANIFEST = Path(__file__).parents[3] / "shared" / "audio" / "manifest.csv"

some_label = st.sampled_from(LABELS)
some_seed = st.integers(0, 2**32 - 1)


def sound(label: str, seed: int) -> Audio:
    return render(label, np.random.default_rng(seed))


def level(x: Audio, frame_s: float = 0.02) -> np.ndarray:
    """Return the RMS of every frame, relative to the loudest: [frames]."""
    frame = int(frame_s * SAMPLE_RATE)
    frames = x[: len(x) // frame * frame].reshape(-1, frame)
    rms = np.sqrt(np.mean(np.square(frames), axis=1))
    return rms / rms.max()


def onsets(x: Audio, high: float = 0.25, low: float = 0.12, apart_s: float = 0.0) -> int:
    """Count how often the level rises above `high` from below `low`, at least `apart_s` apart."""
    count, armed, last_s = 0, True, -np.inf
    for index, value in enumerate(level(x)):
        if armed and value > high:
            armed = False
            if 0.02 * index - last_s >= apart_s:
                count, last_s = count + 1, 0.02 * index
        elif value < low:
            armed = True
    return count


def power(x: Audio) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies in Hz and the power spectrum of the whole sound."""
    return np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE), np.square(np.abs(np.fft.rfft(x)))


def share(x: Audio, low: float, high: float) -> float:
    """Return the share of the energy between `low` and `high` Hz."""
    f, p = power(x)
    return float(p[(f >= low) & (f < high)].sum() / p.sum())


def dominant_hz(x: Audio) -> float:
    f, p = power(x * np.hanning(len(x)))  # the window keeps a short frame's peak from being smeared
    return float(f[np.argmax(p)])


def flatness(x: Audio) -> float:
    """Return the ratio of geometric to arithmetic mean of the smoothed spectrum from 500 Hz to 4 kHz."""
    f, p = power(x)
    inside = p[(f >= 500) & (f < 4000)]
    smooth = inside[: len(inside) // 100 * 100].reshape(100, -1).mean(axis=1)
    return float(np.exp(np.mean(np.log(smooth + 1e-12))) / np.mean(smooth))


def harmonicity(x: Audio, low_hz: float, high_hz: float) -> float:
    """Return the median, over loud 40 ms frames, of the largest autocorrelation at periods in the range."""
    size = 640
    frames = x[: len(x) // size * size].reshape(-1, size)
    loud = frames[level(x, 0.04) > 0.3] * np.hanning(size)
    spectrum = np.square(np.abs(np.fft.rfft(loud, 2 * size)))
    correlation = np.fft.irfft(spectrum)[:, : size // 2]
    lags = correlation[:, int(SAMPLE_RATE / high_hz) : int(SAMPLE_RATE / low_hz)]
    return float(np.median(lags.max(axis=1) / correlation[:, 0]))


def median(measure, label: str) -> float:
    return float(np.median([measure(sound(label, seed)) for seed in SEEDS]))


@pytest.mark.parametrize("label", LABELS)
def test_every_sound_keeps_its_bounds(label):
    for seed in range(3):
        x = sound(label, seed)
        assert (x.dtype, x.ndim) == (np.float32, 1)
        assert np.isfinite(x).all()
        assert 0.05 < np.abs(x).max() <= 1.0
        assert 0.3 <= len(x) / SAMPLE_RATE <= 6.0
        assert max(np.abs(x[:8]).max(), np.abs(x[-8:]).max()) < 0.1


@settings(max_examples=40, deadline=None)
@given(some_label, some_seed)
def test_a_seed_fixes_the_sound_and_another_changes_it(label, seed):
    x, again, other = sound(label, seed), sound(label, seed), sound(label, seed + 1)
    np.testing.assert_array_equal(x, again)
    assert len(x) != len(other) or np.abs(x - other).max() > 0.01


@settings(max_examples=30, deadline=None)
@given(some_label, some_seed)
def test_bounds_hold_for_any_seed(label, seed):
    x = sound(label, seed)
    assert np.isfinite(x).all()
    assert 0.05 < np.abs(x).max() <= 1.0
    assert 0.3 <= len(x) / SAMPLE_RATE <= 6.0


def test_smoke_alarm_is_a_high_tone_that_goes_on_and_off():
    for seed in SEEDS:
        x = sound("smoke_alarm", seed)
        f, p = power(x)
        strongest = f[np.argsort(p)[-5:]]
        assert any(2500 < hz < 4000 for hz in strongest)
        assert share(x, 2500, 7500) > 0.9
    assert median(onsets, "smoke_alarm") >= 2


def test_a_coughing_fit_has_three_bursts_and_a_single_cough_one():
    def coughs(label: str) -> list[int]:  # the voice that closes a cough comes within 0.3 s and is no cough
        return [onsets(sound(label, seed), 0.2, 0.15, apart_s=0.3) for seed in range(20)]

    assert min(coughs("cough_fit")) >= 3
    assert set(coughs("cough_single")) == {1}


def test_overdrive_leaves_no_offset():
    for label in ("siren", "car_horn", "baby_cry"):
        assert max(share(sound(label, seed), 0, 10) for seed in SEEDS) < 1e-3


def test_siren_sweeps():
    for seed in SEEDS:
        x = sound("siren", seed)
        frames = x[: len(x) // 1600 * 1600].reshape(-1, 1600)
        tracks = [dominant_hz(frame) for frame in frames[level(x, 0.1) > 0.2]]
        assert np.quantile(tracks, 0.9) / np.quantile(tracks, 0.1) > 1.2


def test_rain_is_flat_noise_and_a_note_is_not():
    assert median(flatness, "rain") > 0.5 > 10 * median(flatness, "note")


def test_glass_is_brighter_than_a_blast():
    assert median(lambda x: share(x, 1500, 8000), "glass_break") > 0.8
    assert median(lambda x: share(x, 0, 600), "blast") > 0.6


def test_a_crying_baby_has_a_voice_at_a_childs_pitch():
    assert median(lambda x: harmonicity(x, 250, 700), "baby_cry") > 0.5
    assert median(lambda x: harmonicity(x, 250, 700), "rain") < 0.3


def test_crying_is_slower_than_laughing():
    def bursts_per_s(x: Audio) -> float:
        return onsets(x, 0.3, 0.2) / (len(x) / SAMPLE_RATE)

    assert median(bursts_per_s, "baby_laugh") > 1.5 * median(bursts_per_s, "baby_cry")


def test_thunder_lasts_and_a_switch_does_not():
    assert median(len, "thunder") > 2.5 * SAMPLE_RATE
    assert median(len, "switch") < 1.5 * SAMPLE_RATE


def test_catalogue_has_enough_of_both_and_the_hard_pairs():
    assert len(RESPOND) >= 12
    assert len(IGNORE) >= 16
    assert {"baby_cry", "cough_fit", "siren", "glass_break", "water_leak"} <= set(RESPOND)
    assert {"baby_laugh", "cat", "sheep", "cough_single", "music", "whistling", "dishes", "rain"} <= set(
        IGNORE
    )


@pytest.mark.parametrize("label", RESPOND)
def test_replies_state_their_key_facts_briefly(label):
    answer = SOUND_CLASSES[label].answer
    assert answer is not None
    assert len(answer.replies) == 3
    assert len(answer.key_facts) in (1, 2)
    assert 0.5 <= answer.urgency <= 1.0
    for reply in answer.replies:
        assert 6 <= len(reply.split()) <= 14
        for fact in answer.key_facts:
            assert re.search(rf"\b(?:{fact})", reply.lower()), (reply, fact)


@pytest.mark.parametrize("label", RESPOND)
def test_the_evidence_lies_within_the_sound(label):
    answer = SOUND_CLASSES[label].answer
    assert answer is not None
    assert min(len(sound(label, seed)) for seed in SEEDS) / SAMPLE_RATE >= answer.evidence_s


@pytest.mark.parametrize("label", IGNORE)
def test_a_sound_to_ignore_has_no_answer(label):
    assert SOUND_CLASSES[label].answer is None


def test_a_known_label_gets_the_catalogues_answer():
    assert answer_for("siren", "anything", "Traffic") is SOUND_CLASSES["siren"].answer


@pytest.mark.parametrize(
    ("label", "caption", "fact"),
    [("my_baby", "a baby is crying", "baby"), ("gas_hiss", "", "gas"), ("x", "Gas hisses.", "gas")],
)
def test_an_own_label_gets_an_answer_from_its_caption(label, caption, fact):
    answer = answer_for(label, caption, "Daily Living Sounds")
    assert fact in answer.key_facts
    assert all(re.search(rf"\b{f}", reply.lower()) for reply in answer.replies for f in answer.key_facts)


def test_draw_serves_both_decisions_evenly_enough():
    rng = np.random.default_rng(0)
    clips = [Foley().draw(rng, "RESPOND") for _ in range(60)]
    assert {clip.decision for clip in clips} == {"RESPOND"}
    assert all(clip.answer is not None and clip.origin == "foley" for clip in clips)
    assert len({clip.label for clip in clips}) > len(RESPOND) / 2
    quiet = Foley().draw(rng, "IGNORE", "rain")
    assert (quiet.label, quiet.decision, quiet.answer) == ("rain", "IGNORE", None)
    assert Foley().has("RESPOND")
    assert Foley().has("IGNORE")


def test_an_unknown_label_is_answered_with_the_nearest():
    with pytest.raises(ScenarioError, match="'sirn'; did you mean 'siren'"):
        render("sirn", np.random.default_rng(0))
    with pytest.raises(ScenarioError, match="did you mean 'rain'"):
        Foley().draw(np.random.default_rng(0), "IGNORE", "rainn")


def test_a_label_of_the_other_decision_is_refused():
    with pytest.raises(ScenarioError, match="'rain' is IGNORE, not RESPOND"):
        Foley().draw(np.random.default_rng(0), "RESPOND", "rain")


def test_catalogue_agrees_with_the_recordings():
    if not MANIFEST.exists():
        pytest.skip("the shared recordings are not here")
    with MANIFEST.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in SOUND_CLASSES]
    assert rows
    for label in {row["label"] for row in rows}:
        known = SOUND_CLASSES[label]
        recorded = {(row["decision"], row["domain"]) for row in rows if row["label"] == label}
        assert recorded == {(known.decision, known.domain)}
