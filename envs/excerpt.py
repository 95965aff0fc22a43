"""A few seconds out of a stream and its trace, on a time axis of their own: for pages that show a moment."""

from dataclasses import replace

from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.scenario import Event, Scenario
from envs.trace import Reply, StepRecord, Trace


def excerpt(scenario: Scenario, trace: Trace, from_s: float, to_s: float) -> tuple[Scenario, Trace]:
    """Return the chunks that a span of time touches, with what was heard, deserved and said in them.

    Second 0 of the excerpt is the beginning of its first chunk. Events are cut to the span; cues and replies keep their
    length, and some begin before 0.

    Args:
        scenario: The whole stream.
        trace: Of the same stream.
        from_s: In seconds of the stream; before its beginning counts as the beginning.
        to_s: After its end counts as the end.
    """
    first = max(int(from_s / CHUNK_S), 0)
    last = min(-int(-to_s // CHUNK_S), scenario.num_chunks)  # one past the last chunk
    begin_s, end_s = first * CHUNK_S, last * CHUNK_S
    said = [r for r in trace.replies if r.start_s < end_s and (r.end_s is None or r.end_s > begin_s)]
    answered = {reply.cue for reply in said}  # a cue goes along with its answer, or that would look like a false alarm
    kept = [
        i for i, cue in enumerate(trace.cues) if (cue.onset_s < end_s and cue.deadline_s > begin_s) or i in answered
    ]
    cues = tuple(
        replace(
            trace.cues[i],
            onset_s=trace.cues[i].onset_s - begin_s,
            ready_s=trace.cues[i].ready_s - begin_s,
            deadline_s=trace.cues[i].deadline_s - begin_s,
        )
        for i in kept
    )
    place = {i: n for n, i in enumerate(kept)}
    events = tuple(_shifted(e, begin_s, end_s) for e in trace.events if e.onset_s < end_s and e.end_s > begin_s)
    audio = scenario.audio[first * CHUNK_SAMPLES : last * CHUNK_SAMPLES]
    cut = replace(
        trace,
        num_chunks=last - first,
        cues=cues,
        events=events,
        user_speech=tuple((s - begin_s, e - begin_s) for s, e in trace.user_speech if s < end_s and e > begin_s),
        replies=[_moved(reply, begin_s, place) for reply in said],
        steps=[_step(step, begin_s) for step in trace.steps[first:last]],
        probabilities=trace.probabilities[first:last],
    )
    return replace(scenario, audio=audio, events=events, cues=cues, timeline=(), user_speech=cut.user_speech), cut


def _shifted(event: Event, begin_s: float, end_s: float) -> Event:
    """Cut an event to the span, so that its name is drawn inside."""
    onset_s = max(event.onset_s, begin_s)
    return replace(event, onset_s=onset_s - begin_s, duration_s=min(event.end_s, end_s) - onset_s)


def _moved(reply: Reply, begin_s: float, place: dict[int, int]) -> Reply:
    end_s = None if reply.end_s is None else reply.end_s - begin_s
    cue = None if reply.cue is None else place[reply.cue]
    return replace(reply, start_s=reply.start_s - begin_s, end_s=end_s, cue=cue)


def _step(step: StepRecord, begin_s: float) -> StepRecord:
    return replace(step, now_s=None if step.now_s is None else step.now_s - begin_s)
