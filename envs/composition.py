"""From a scene plan to a stream: foreground in sequence, background and ambience under it, two noise tracks.

Levels, gaps and noise as in the paper's section on composition; the constants that it leaves open stand here.
"""

import numpy as np

from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE, due_chunk, samples
from envs.errors import ScenarioError
from envs.planning import LONGEST_CLIP_S, TAIL_S, ScenePlan
from envs.scenario import Audio, Clip, Cue, Event, Role, Scenario, TimelineEntry

FADE_S = 0.02
GAP_S = (0.4, 2.5)
LEVEL_DBFS, LEVEL_SPREAD_DB = -20.0, 6.0
BACKGROUND_DB, AMBIENT_DB = -6.0, -12.0
SNR_DB = (5.0, 20.0)
AMBIENT_NOISE_DB = -5.0
GRACE_S = 2.0  # from the end of an event to its deadline
_CREST = 6.0  # a peak that far above its clip's loud frames counts as its level
_NOISE_S = 5.0  # length of a noise tile


def compose(plan: ScenePlan, seed: int, ability: str = "Proactive") -> Scenario:
    """Render a plan as a stream of `plan.num_chunks` chunks; everything that is drawn follows from `seed`.

    Raises:
        ScenarioError: when the foreground does not fit into the stream.
    """
    rng = np.random.default_rng([seed, 0xC0])
    total = plan.num_chunks * CHUNK_SAMPLES
    foreground, events, cues, timeline = np.zeros(total, np.float32), [], [], []
    level = 10 ** ((LEVEL_DBFS + rng.uniform(-LEVEL_SPREAD_DB, LEVEL_SPREAD_DB)) / 20)
    cursor = 0
    for clip, gap in zip(plan.foreground, _gaps(plan, rng), strict=True):
        audio = prepare(clip, level * 10 ** (rng.uniform(-3, 3) / 20))
        cursor += gap
        foreground[cursor : cursor + len(audio)] += audio
        event = _event(clip, "foreground", cursor, len(audio))
        events.append(event)
        if clip.answer is not None:
            cues.append(_cue(clip, event))
            text = clip.answer.replies[int(rng.integers(len(clip.answer.replies)))]
            timeline.append(TimelineEntry(due_chunk(event.end_s), text))
        cursor += len(audio)
    mix = foreground
    beds: tuple[tuple[Role, tuple[Clip, ...], float], ...] = (
        ("background", plan.background, BACKGROUND_DB),
        ("ambient", plan.ambient, AMBIENT_DB),
    )
    for role, clips, gain_db in beds:
        for clip in clips:
            audio = prepare(clip, level * 10 ** (gain_db / 20))
            start = int(rng.integers(0, max(total - len(audio), 1)))
            mix[start : start + len(audio)] += audio[: total - start]
            events.append(_event(clip, role, start, len(audio)))
    mix = mix + sum(noise_tracks(rng, total, level))
    peak = float(np.abs(mix).max())
    audio = (mix / max(peak, 1.0)).astype(np.float32)
    order = sorted(events, key=lambda e: e.onset_s)
    return Scenario(seed, ability, audio, tuple(order), tuple(cues), tuple(timeline))


def _gaps(plan: ScenePlan, rng: np.random.Generator) -> list[int]:
    """Draw the samples of quiet before each foreground clip, squeezed when there is no room for them."""
    drawn = rng.uniform(*GAP_S, len(plan.foreground))
    heard_s = sum(min(clip.seconds, LONGEST_CLIP_S) for clip in plan.foreground)
    room_s = plan.num_chunks * CHUNK_S - TAIL_S - heard_s
    if room_s < 0:
        raise ScenarioError(
            f"a stream of {plan.num_chunks} chunks has no room for {heard_s:.1f} s of foreground"
            f" and a tail of {TAIL_S} s; plan fewer clips or more chunks"
        )
    scale = min(1.0, room_s / max(float(drawn.sum()), 1e-9))
    return [int(gap * scale * SAMPLE_RATE) for gap in drawn]


def prepare(clip: Clip, rms: float) -> Audio:
    """Return a clip at a level: loud frames at `rms`, ends faded over 20 ms, at most five seconds."""
    audio = clip.audio[: samples(LONGEST_CLIP_S)].copy()
    power = np.square(audio[: len(audio) // 160 * 160].reshape(-1, 160)).mean(axis=1) if len(audio) >= 160 else audio**2
    loud = float(np.sqrt(np.percentile(power, 90))) if len(power) else 0.0
    loudness = max(loud, float(np.abs(audio).max(initial=0.0)) / _CREST)  # a lone click is not blown up
    audio *= rms / max(loudness, 1e-5)
    width = min(samples(FADE_S), len(audio) // 2)
    ramp = np.linspace(0, 1, width, endpoint=False, dtype=np.float32)
    audio[:width] *= ramp
    audio[len(audio) - width :] *= ramp[::-1]
    return audio


def _event(clip: Clip, role: Role, start: int, length: int) -> Event:
    return Event(clip.label, clip.caption, role, clip.decision, start / SAMPLE_RATE, length / SAMPLE_RATE, clip.origin)


def _cue(clip: Clip, event: Event) -> Cue:
    """A cue is ready when its evidence has been heard, and missed two seconds after the sound's end."""
    answer = clip.answer
    assert answer is not None  # the caller asks for cues of RESPOND clips alone
    return Cue(
        onset_s=event.onset_s,
        ready_s=event.onset_s + min(answer.evidence_s, event.duration_s),
        deadline_s=event.end_s + GRACE_S,
        label=clip.label,
        replies=answer.replies,
        key_facts=answer.key_facts,
        urgency=answer.urgency,
        criterion=answer.criterion,
        sub_task=answer.sub_task,
    )


def noise_tracks(rng: np.random.Generator, total: int, level: float) -> tuple[Audio, Audio]:
    """Return two noise tracks, float32 [total] each: event-like at SNR ~ U(5, 20) dB, ambient 5 dB quieter.

    `level` is the RMS of the foreground.
    """
    snr = rng.uniform(*SNR_DB)
    gain = level * 10 ** (-snr / 20)
    bursts = tile(modulated_noise(rng, depth=0.8), total)
    steady = tile(modulated_noise(rng, depth=0.1), total)
    return _at_rms(bursts, gain), _at_rms(steady, gain * 10 ** (AMBIENT_NOISE_DB / 20))


def _at_rms(audio: Audio, rms: float) -> Audio:
    return (audio * (rms / max(float(np.sqrt(np.mean(np.square(audio)))), 1e-9))).astype(np.float32)


def modulated_noise(rng: np.random.Generator, depth: float) -> Audio:
    """Return one tile of coloured noise: a slope of 0 to -9 dB an octave, a broad peak, slowly modulated."""
    length = samples(_NOISE_S)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 40.0)
    slope = rng.uniform(0.0, 1.5)
    centre, width = np.exp(rng.uniform(np.log(150), np.log(4000))), rng.uniform(0.3, 1.5)
    bump = 1.0 + rng.uniform(0, 3) * np.exp(-0.5 * (np.log(frequency / centre) / width) ** 2)
    noise = np.fft.irfft(spectrum * (frequency / 100.0) ** (-slope) * bump, length)
    knots = np.interp(np.linspace(0, 12, length), np.arange(13), rng.random(13))
    return _at_rms((noise * (1.0 - depth + depth * knots)).astype(np.float32), 1.0)


def tile(piece: Audio, total: int) -> Audio:
    """Repeat a piece over `total` samples with equal-power crossfades of 200 ms."""
    fade = samples(0.2)
    ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
    faded = piece.copy()
    faded[:fade] *= ramp
    faded[-fade:] *= ramp[::-1]
    step = len(piece) - fade
    out = np.zeros(total + len(piece) + step, np.float32)
    for start in range(0, total + fade, step):
        out[start : start + len(piece)] += faded
    return out[fade : fade + total]
