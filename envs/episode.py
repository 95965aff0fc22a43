"""One episode of one stream: what an action does, when, and what it earns. Both environments run on it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from envs.clock import CHUNK_S, chunk_end_s
from envs.matching import Matcher
from envs.rewards import Moment, Reward
from envs.scenario import Cue, Scenario
from envs.thinking import ThinkingTime, thinking_times
from envs.tokenizer import TextTokenizer
from envs.trace import Reply, StepRecord, Trace

WAIT, RESPOND, TOKENS = 0, 1, 2


class Act(NamedTuple):
    """An action that has taken effect and has not been rewarded yet."""

    kind: int
    tokens: tuple[int, ...]
    moment: Moment


class Episode:
    """Plays a scenario. At step t the agent holds chunks 0..t; its action takes effect at the end of chunk t.

    The tokens of step t sound while chunk t + 1 is heard, so a reply that ends with its end token at step t
    ends at the end of chunk t + 1; one that a WAIT closes ends at once. A reply that is open at the
    scenario's end is closed there; one that an outer time limit cut stays open in the trace. A reply without
    a word is a reply all the same: it takes a cue or is a false alarm, and its text is worth nothing.

    Attributes:
        thinking_s: [num_chunks] seconds between the end of each chunk and the effect of the action taken on it.
            Actions never overtake each other.
    """

    def __init__(
        self, scenario: Scenario, tokenizer: TextTokenizer, reward: Reward, thinking_s: ThinkingTime = 0.0
    ) -> None:
        self.scenario, self.tokenizer, self.reward = scenario, tokenizer, reward
        self.num_chunks = scenario.num_chunks
        self.thinking_s = thinking_times(thinking_s, scenario.seed, self.num_chunks)
        self._longest_s = max(self.thinking_s)
        self.step_index = 0
        self.trace = Trace(
            seed=scenario.seed,
            ability=scenario.ability,
            num_chunks=scenario.num_chunks,
            cues=scenario.cues,
            events=scenario.events,
            user_speech=scenario.user_speech,
        )
        self.speaking = False
        self._matcher = Matcher(scenario.cues)
        self._spoken: list[int] = []
        self._now_s = 0.0  # when the latest action took effect

    @property
    def over(self) -> bool:
        """Whether the scenario was played out."""
        return self.step_index >= self.num_chunks

    @property
    def answerable(self) -> Cue | None:
        """The cue that a RESPOND would answer if it were the next action, or None (a false alarm)."""
        index = self._matcher.find(self._effect_s())
        return None if index is None else self.scenario.cues[index]

    def step(self, kind: int, tokens: Sequence[int]) -> StepRecord:
        """Apply one action after chunk `step_index` and return its record.

        An action that does not fit (TOKENS while silent, RESPOND while speaking) counts as WAIT, flagged.

        Args:
            kind: WAIT, RESPOND or TOKENS.
            tokens: Ids in [0, vocab_size); others are padding. Those of a WAIT, or after an end token, are
                ignored.

        Raises:
            ConfigError: when the reward fails.
        """
        return self.earn(self.act(kind, tokens))

    def act(self, kind: int, tokens: Sequence[int]) -> Act:
        """Apply an action as `step` does, and leave its reward to `earn`."""
        now_s = self._now_s = self._effect_s()
        invalid = (kind == TOKENS and not self.speaking) or (kind == RESPOND and self.speaking)
        kind = WAIT if invalid else kind
        size = self.tokenizer.vocab_size
        ids = [int(i) for i in tokens if 0 <= i < size] if kind != WAIT else []
        started = self._begin(now_s) if kind == RESPOND else None
        ended = self._speak(kind, ids, now_s)
        last = self.step_index + 1 >= self.num_chunks
        if last and self.speaking:
            ended = self._end(now_s)
        missed = self._matcher.expire(math.inf if last else now_s)  # a cue is missed once, at the latest at the end
        moment = Moment(
            trace=self.trace,
            step=self.step_index,
            now_s=now_s,
            started=started,
            ended=ended,
            missed=tuple(self.scenario.cues[i] for i in missed),
            agent_speaking=kind != WAIT,
            user_speaking=user_speaks(self.scenario.user_speech, now_s),
            invalid=invalid,
        )
        return Act(kind, tuple(ids), moment)

    def earn(self, act: Act) -> StepRecord:
        """Reward the action that was applied last, and return the step's record.

        Raises:
            ConfigError: when the reward fails, naming component, scenario and step.
        """
        moment = act.moment
        rewards = self.reward.earned(moment)
        record = StepRecord(act.kind, act.tokens, rewards, moment.invalid, moment.now_s, moment.ended is not None)
        self.trace.steps.append(record)
        self.step_index += 1
        return record

    @property
    def quiet_until(self) -> int:
        """The first step at which a WAIT may do something: now while it speaks, else at a deadline or the end."""
        if self.speaking:
            return self.step_index
        last = self.num_chunks - 1
        due = min((self._matcher.next_deadline_s - self._longest_s) / CHUNK_S, last + 1.0)
        return max(math.floor(due) - 1, self.step_index)

    def wait_quietly(self, steps: int) -> None:
        """Take `steps` WAITs at once, all before `quiet_until`, under a reward that is 0 where nothing happens."""
        nothing = dict.fromkeys(self.reward.names, 0.0)
        for _ in range(steps):
            self._now_s = self._effect_s()
            self.trace.steps.append(StepRecord(WAIT, (), nothing, False, self._now_s))
            self.step_index += 1

    def _effect_s(self) -> float:
        """Return when an action on the latest chunk takes effect: never before the preceding one."""
        thinking_s = self.thinking_s[min(self.step_index, self.num_chunks - 1)]
        return max(chunk_end_s(self.step_index) + thinking_s, self._now_s)

    def _begin(self, now_s: float) -> Reply:
        reply = Reply(start_s=now_s, cue=self._matcher.take(now_s))
        self.trace.replies.append(reply)
        self._spoken = []
        self.speaking = True
        return reply

    def _speak(self, kind: int, ids: list[int], now_s: float) -> Reply | None:
        """Take tokens into the open reply; return the reply if it ended."""
        if not self.speaking:
            return None
        end = self.tokenizer.end_id
        self._spoken += ids[: ids.index(end)] if end in ids else ids
        if kind == WAIT:
            return self._end(now_s)
        return self._end(now_s + CHUNK_S) if end in ids else None

    def _end(self, end_s: float) -> Reply:
        reply = self.trace.replies[-1]
        reply.end_s, reply.num_tokens = end_s, len(self._spoken)
        reply.text = self.tokenizer.decode(self._spoken).strip()
        self.speaking = False
        return reply


def user_speaks(user_speech: Sequence[tuple[float, float]], now_s: float) -> bool:
    """Return whether the user speaks within a chunk from `now_s`, while the step's tokens sound."""
    return any(start < now_s + CHUNK_S and end > now_s for start, end in user_speech)
