"""From a scene plan to a stream: foreground in sequence, background and ambience under it, two noise tracks.

Levels, gaps and noise as in the paper's section on composition; the constants that it leaves open stand here.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE, due_chunk, samples
from envs.errors import ScenarioError
from envs.noise import SNR_DB, add_noise, make_loop
from envs.planning import TAIL_S, ScenePlan, heard_s
from envs.scenario import Answer, Audio, Clip, Cue, Event, Role, Scenario, TimelineEntry

FADE_S = 0.02
GAP_S = (0.4, 2.5)
LEVEL_DBFS, LEVEL_SPREAD_DB = -20.0, 6.0
BACKGROUND_DB, AMBIENT_DB = -6.0, -12.0
LOUDER_DB = 3.0  # how far a clip may stand above or below the level of its stream


def compose(plan: ScenePlan, seed: int, ability: str = "Proactive", snr_db: tuple[float, float] = SNR_DB) -> Scenario:
    """Render a plan as a stream of `plan.num_chunks` chunks; everything that is drawn follows from `seed`.

    `snr_db` is the least and greatest distance of the foreground's level to the noise's.

    Raises:
        ScenarioError: when the foreground does not fit into the stream.
    """
    rng = np.random.default_rng([seed, 0xC0])
    total = plan.num_chunks * CHUNK_SAMPLES
    level = 10 ** ((LEVEL_DBFS + rng.uniform(-LEVEL_SPREAD_DB, LEVEL_SPREAD_DB)) / 20)
    mix = np.zeros(total, np.float32)
    foreground = _lay_foreground(plan, rng, level, mix)
    beds = _lay_beds(plan, rng, level, mix) + _lay_whole_scene(plan, rng, level, mix)
    add_noise(rng, level, mix, snr_db)
    peak = max(float(mix.max()), -float(mix.min()))
    if peak > 1.0:
        mix /= peak
    cues, timeline = _cues(plan, foreground, rng)
    return Scenario(
        seed=seed,
        ability=ability,
        audio=mix,
        events=tuple(sorted(foreground + beds, key=lambda e: e.onset_s)),
        cues=cues,
        timeline=timeline,
        instruction=plan.instruction,
        user_speech=tuple(
            (event.onset_s, event.end_s)
            for clip, event in zip(plan.foreground, foreground, strict=True)
            if clip.directed
        ),
    )


def _lay_foreground(plan: ScenePlan, rng: np.random.Generator, level: float, mix: Audio) -> list[Event]:
    """Add the foreground clips one after another; return their events."""
    events, cursor = [], 0
    for clip, gap in zip(plan.foreground, _gaps(plan, rng), strict=True):
        audio = prepare(clip, level * 10 ** (rng.uniform(-LOUDER_DB, LOUDER_DB) / 20))
        cursor += gap
        mix[cursor : cursor + len(audio)] += audio
        events.append(_event(clip, "foreground", cursor, len(audio)))
        cursor += len(audio)
    return events


def _lay_beds(plan: ScenePlan, rng: np.random.Generator, level: float, mix: Audio) -> list[Event]:
    """Add background and ambient clips at random places; return their events."""
    beds: tuple[tuple[Role, tuple[Clip, ...], float], ...] = (
        ("background", plan.background, BACKGROUND_DB),
        ("ambient", plan.ambient, AMBIENT_DB),
    )
    events = []
    for role, clips, gain_db in beds:
        for clip in clips:
            audio = prepare(clip, level * 10 ** (gain_db / 20))
            start = int(rng.integers(0, max(len(mix) - len(audio), 1)))
            mix[start : start + len(audio)] += audio[: len(mix) - start]
            events.append(_event(clip, role, start, len(audio)))
    return events


def _lay_whole_scene(plan: ScenePlan, rng: np.random.Generator, level: float, mix: Audio) -> list[Event]:
    """Add what lasts the whole scene, looped without a seam, as loud as other ambience; return its events."""
    events = []
    for clip in plan.whole_scene:
        loop = make_loop(clip.audio[: samples(heard_s(clip))])
        loudness = max(replace(clip, audio=loop.audio).loudness, 1e-5)
        loop.add_to(mix, int(rng.integers(len(loop.audio))), level * 10 ** (AMBIENT_DB / 20) / loudness)
        events.append(_event(clip, "ambient", 0, len(mix)))
    return events


def _cues(
    plan: ScenePlan, foreground: Sequence[Event], rng: np.random.Generator
) -> tuple[tuple[Cue, ...], tuple[TimelineEntry, ...]]:
    """Return what deserves a reply, by onset, and what an agent says that follows the timeline."""
    cues, timeline = [], []
    for clip, event in zip(plan.foreground, foreground, strict=True):
        for answer in clip.answers:
            cues.append(_cue(answer, event))
            text = answer.replies[int(rng.integers(len(answer.replies)))]
            timeline.append(TimelineEntry(due_chunk(event.onset_s + _due_s(answer, event)), text))
    cues.sort(key=lambda cue: cue.onset_s)
    timeline.sort(key=lambda entry: entry.chunk)
    return tuple(cues), tuple(timeline)


def _gaps(plan: ScenePlan, rng: np.random.Generator) -> list[int]:
    """Return the samples of quiet before each foreground clip: planned ones as they are, drawn ones squeezed to fit."""
    drawn = np.array(plan.gaps_s) if plan.gaps_s else rng.uniform(*GAP_S, len(plan.foreground))
    busy_s = sum(heard_s(clip) for clip in plan.foreground)
    room_s = plan.num_chunks * CHUNK_S - TAIL_S - busy_s
    if room_s < (sum(plan.gaps_s) if plan.gaps_s else 0.0):
        raise ScenarioError(
            f"a stream of {plan.num_chunks} chunks has no room for {busy_s:.1f} s of foreground"
            f" and a tail of {TAIL_S} s; plan fewer clips or more chunks"
        )
    scale = min(1.0, room_s / max(float(drawn.sum()), 1e-9))
    return [int(gap * scale * SAMPLE_RATE) for gap in drawn]


def prepare(clip: Clip, rms: float) -> Audio:
    """Return what is heard of a clip, at a level: loud frames at `rms`, ends faded over 20 ms."""
    audio = clip.audio[: samples(heard_s(clip))] * np.float32(rms / max(clip.loudness, 1e-5))
    width = min(samples(FADE_S), len(audio) // 2)
    ramp = np.linspace(0, 1, width, endpoint=False, dtype=np.float32)
    audio[:width] *= ramp
    audio[len(audio) - width :] *= ramp[::-1]
    return audio


def _event(clip: Clip, role: Role, start: int, length: int) -> Event:
    return Event(clip.label, clip.caption, role, clip.decision, start / SAMPLE_RATE, length / SAMPLE_RATE, clip.origin)


def _due_s(answer: Answer, event: Event) -> float:
    return min(answer.due_s, event.duration_s)


def _cue(answer: Answer, event: Event) -> Cue:
    """A cue is ready when its evidence has been heard, and missed some time after its reply was due."""
    return Cue(
        onset_s=event.onset_s + answer.onset_s,
        ready_s=event.onset_s + min(answer.evidence_s, event.duration_s),
        deadline_s=event.onset_s + _due_s(answer, event) + answer.grace_s,
        label=event.label,
        replies=answer.replies,
        key_facts=answer.key_facts,
        urgency=answer.urgency,
        criterion=answer.criterion,
        sub_task=answer.sub_task,
    )
