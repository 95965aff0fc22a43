"""Five streams joined: what is heard at each place, and whose segment a reply counts in."""

from dataclasses import replace

import numpy as np
import pytest

from envs.foley import Foley
from envs.scenario import Cue, Event, Scenario
from envs.suites.long_stream import SEGMENT_CHUNKS, SEGMENTS, LongStream, segment_of
from envs.trace import Reply, Trace

SUITE = LongStream(Foley(), groups=1)
SEGMENT_S = 20.0


@pytest.fixture(scope="module")
def streams() -> list[Scenario]:
    return [SUITE.scenario(seed) for seed in SUITE.seeds]


def test_every_segment_stands_once_at_each_place(streams: list[Scenario]) -> None:
    assert [stream.duration_s for stream in streams] == [SEGMENTS * SEGMENT_S] * SEGMENTS
    own = [SUITE.segment(0, number) for number in range(SEGMENTS)]
    length, fade = SEGMENT_CHUNKS * 6400, 400
    for rotation, stream in enumerate(streams):
        for place in range(SEGMENTS):
            heard = stream.audio[place * length : (place + 1) * length]
            part = own[(place + rotation) % SEGMENTS]
            np.testing.assert_array_equal(heard[fade:-fade], part.audio[fade:-fade])
            assert heard[0] == 0.0
            cues = [cue for cue in stream.cues if 0 <= cue.onset_s - place * SEGMENT_S < SEGMENT_S]
            assert [cue.label for cue in cues] == [cue.label for cue in part.cues]
            assert all(cue.deadline_s <= (place + 1) * SEGMENT_S for cue in cues)
    np.testing.assert_array_equal(SUITE.scenario(3).audio, streams[3].audio)


def test_its_timeline_answers_every_cue(streams: list[Scenario]) -> None:
    stream = streams[2]
    assert stream.cues
    due_s = [(entry.chunk + 1) * 0.4 for entry in stream.timeline]
    assert all(cue.ready_s < due <= cue.deadline_s for cue, due in zip(stream.cues, due_s, strict=True))


def cue(onset_s: float) -> Cue:
    return Cue(onset_s, onset_s + 1.0, onset_s + 3.0, "x", ("Look.",), (), 1.0, "", "")


def sound(onset_s: float, decision: str) -> Event:
    return Event("x", "x", "foreground", decision, onset_s, 1.0, "test")  # type: ignore[arg-type]


def test_scores_of_a_place_are_those_counted_by_hand() -> None:
    """Place 1 is answered, place 2 missed; in place 3 one of two sounds is left alone; one alarm begins as 4 ends."""
    cues = (cue(2.0), cue(25.0), cue(16.5 + 40.0))
    events = (
        *(sound(c.onset_s, "RESPOND") for c in cues),
        sound(41.0, "IGNORE"),
        sound(78.0, "IGNORE"),
    )
    replies = [Reply(3.2, 4.0, "Look.", 2, 0), Reply(41.6, 42.0, "Hm.", 2, None), Reply(80.0, 80.4, "Hm.", 2, None)]
    trace = Trace(0, "Proactive", SEGMENTS * SEGMENT_CHUNKS, cues, events, replies=replies)
    scores = SUITE.score([trace, replace(trace, seed=1)])
    f1, right, alarms = (
        [scores[f"{name}: segment {k}"].value for k in range(1, 6)]
        for name in ("trigger_f1", "decision_accuracy", "false_alarms_per_hour")
    )
    assert f1 == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert right == [1.0, 0.0, 0.0, 0.0, 0.0]  # place 3: its cue missed, its other sound answered; 4: answered at 80 s
    assert alarms == [0.0, 0.0, 180.0, 180.0, 0.0]
    assert scores["trigger_f1"].value == pytest.approx(2 * 1 / (3 + 3))


def test_a_reply_belongs_to_the_cue_that_it_answers() -> None:
    """A late one, in the next segment, is no false alarm there."""
    late = Cue(18.0, 19.0, 21.0, "x", ("Look.",), (), 1.0, "", "")
    trace = Trace(0, "Proactive", SEGMENTS * SEGMENT_CHUNKS, (late,), (), replies=[Reply(20.8, 21.0, "Look.", 2, 0)])
    assert [reply.cue for reply in segment_of(trace, 0).replies] == [0]
    assert not segment_of(trace, 1).replies
