"""What stored traces are worth under another reward: no model runs, and every component gives what it gave live."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from envs.episode import RESPOND, WAIT, user_speaks
from envs.errors import ScenarioError
from envs.matching import Matcher
from envs.rewards.moment import Moment
from envs.rewards.reward import Reward
from envs.trace import Reply, Trace

_TOGETHER = 256  # traces whose moments components may ask about at once


def rescore(traces: Sequence[Trace], reward: Reward) -> list[Trace]:
    """Return the traces as they would have been recorded under a reward; those given are left as they are.

    Raises:
        ScenarioError: when a trace is of a version that did not tell when actions took effect, or contradicts itself.
        ConfigError: when a component fails, naming it, the scenario and the step.
    """
    scored = []
    for first in range(0, len(traces), _TOGETHER):
        together = traces[first : first + _TOGETHER]
        reward.prepare([moment for trace in together for moment in _moments(trace)])
        scored += [_replay(trace, reward.earned) for trace in together]
    return scored


def _moments(trace: Trace) -> list[Moment]:
    moments = list[Moment]()

    def note(moment: Moment) -> dict[str, float]:
        moments.append(moment)
        return {}

    _replay(trace, note)
    return moments


def _replay(trace: Trace, earn: Callable[[Moment], dict[str, float]]) -> Trace:
    """Let a trace happen again, step by step, as a component saw it live: nothing of what came later is in it."""
    if len(trace.steps) > trace.num_chunks:
        raise _broken(trace, f"has {len(trace.steps)} steps in {trace.num_chunks} chunks")
    so_far = replace(trace, replies=[], steps=[], probabilities=[])
    matcher, speaking = Matcher(trace.cues), False
    for index, step in enumerate(trace.steps):
        if step.now_s is None:
            raise _broken(trace, "does not tell when its actions took effect, it is of an earlier version")
        so_far.probabilities = trace.probabilities[: index + 1]
        started = _begin(so_far, trace, index, matcher) if step.kind == RESPOND else None
        speaking = speaking or started is not None
        if speaking != (step.kind != WAIT) and not (step.ended and speaking):
            raise _broken(trace, f"speaks at step {index} in no reply, or is silent in one")
        ended = _end(so_far, trace, index) if step.ended else None
        speaking = speaking and ended is None
        last = index + 1 == trace.num_chunks
        missed = matcher.expire(math.inf if last else step.now_s)
        moment = Moment(
            trace=so_far,
            step=index,
            now_s=step.now_s,
            started=started,
            ended=ended,
            missed=tuple(trace.cues[i] for i in missed),
            agent_speaking=step.kind != WAIT,
            user_speaking=user_speaks(trace.user_speech, step.now_s),
            invalid=step.invalid,
        )
        so_far.steps.append(replace(step, rewards=earn(moment)))
    if len(so_far.replies) != len(trace.replies):
        raise _broken(trace, f"has {len(trace.replies)} replies, of which {len(so_far.replies)} begin in its steps")
    so_far.probabilities = list(trace.probabilities)
    return so_far


def _begin(so_far: Trace, trace: Trace, index: int, matcher: Matcher) -> Reply:
    """Begin the next reply, whose end and words nobody knows yet."""
    if len(so_far.replies) == len(trace.replies):
        raise _broken(trace, f"begins a reply at step {index} that it does not hold")
    stored, now_s = trace.replies[len(so_far.replies)], trace.steps[index].now_s
    if stored.start_s != now_s or stored.cue != matcher.take(stored.start_s):
        raise _broken(trace, f"begins a reply at step {index} that has another start, or answers another cue")
    reply = Reply(stored.start_s, cue=stored.cue)
    so_far.replies.append(reply)
    return reply


def _end(so_far: Trace, trace: Trace, index: int) -> Reply:
    if not so_far.replies or so_far.replies[-1].end_s is not None:
        raise _broken(trace, f"ends a reply at step {index} that it did not begin")
    reply, stored = so_far.replies[-1], trace.replies[len(so_far.replies) - 1]
    reply.end_s, reply.text, reply.num_tokens = stored.end_s, stored.text, stored.num_tokens
    return reply


def _broken(trace: Trace, fault: str) -> ScenarioError:
    return ScenarioError(
        f"the trace of scenario {trace.seed} {fault}; it cannot be scored again: play the policy once more"
    )
