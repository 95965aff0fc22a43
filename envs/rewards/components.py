"""The built-in components, each a small pure class over the trace so far."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envs.rewards.bill import Bill
from envs.rewards.moment import Moment, RewardComponent
from envs.rewards.scorers import scorer_from_config
from envs.rewards.scoring import ScoredReply, Scorer
from envs.text_scores import repeated_share


class Latency:
    """A reply matches a cue: urgency * (1 - (t - ready) / (deadline - ready)), clipped to [0, 1]."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Reward a reply that starts now."""
        cue = moment.cue(moment.started)
        if cue is None or moment.started is None:
            return 0.0
        late = (moment.started.start_s - cue.ready_s) / (cue.deadline_s - cue.ready_s)
        return min(max(cue.urgency * (1.0 - late), 0.0), 1.0)


class Helpfulness:
    """A matched reply ends: its text against the references, in [0, 1].

    Args:
        scorer: Who scores the words, or its configuration, such as `{name: judge, args: {...}}`; default: chrF and key
            facts. A text without a word is worth 0 to every scorer.
    """

    of_text = True
    eventful = True

    def __init__(self, scorer: Scorer | Mapping[str, Any] | None = None) -> None:
        chosen = {"name": "chrf"} if scorer is None else scorer
        self.scorer = scorer_from_config(chosen) if isinstance(chosen, Mapping) else chosen
        self.bill: Bill | None = getattr(self.scorer, "bill", None)
        self._prepared: dict[ScoredReply, float] = {}

    def prepare(self, moments: Sequence[Moment]) -> None:
        """Let the scorer score all replies at once."""
        replies = list(dict.fromkeys(reply for moment in moments if (reply := _to_score(moment)) is not None))
        scores = self.scorer.scores(replies) if replies else []
        self._prepared = dict(zip(replies, scores, strict=True))

    def value(self, moment: Moment) -> float:
        """Score a reply that ends now."""
        reply = _to_score(moment)
        if reply is None:
            return 0.0
        return self._prepared[reply] if reply in self._prepared else self.scorer.scores([reply])[0]


def _to_score(moment: Moment) -> ScoredReply | None:
    cue = moment.cue(moment.ended)
    if cue is None or moment.ended is None or not moment.ended.text.strip():
        return None
    return ScoredReply(moment.ended.text, cue.replies, cue.key_facts, cue.label)


class FalseAlarm:
    """A reply matches no cue: -1."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish a reply that starts now without a cause."""
        return -1.0 if moment.started is not None and moment.started.cue is None else 0.0


class Miss:
    """A deadline passes unanswered: -urgency."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish the cues missed now."""
        return -sum((cue.urgency for cue in moment.missed), 0.0)


class Premature:
    """A reply begins after onset but before ready: -0.5 * (ready - t) / (ready - onset)."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish a guess."""
        cue = moment.cue(moment.started)
        if cue is None or moment.started is None:
            return 0.0
        return -0.5 * max(cue.ready_s - moment.started.start_s, 0.0) / (cue.ready_s - cue.onset_s)


class Overlap:
    """Agent and user both speak in this chunk: -0.1, unless the cue being answered is urgent."""

    eventful = True

    def __init__(self, urgent_from: float = 0.9) -> None:
        self.urgent_from = urgent_from

    def value(self, moment: Moment) -> float:
        """Punish talking over the user."""
        if not (moment.agent_speaking and moment.user_speaking):
            return 0.0
        cue = moment.cue(moment.trace.replies[-1]) if moment.trace.replies else None
        return 0.0 if cue is not None and cue.urgency >= self.urgent_from else -0.1


class Verbosity:
    """A reply ends: -0.02 for every token over the budget."""

    of_text = True
    eventful = True

    def __init__(self, budget: int = 24, per_token: float = 0.02) -> None:
        self.budget, self.per_token = budget, per_token

    def value(self, moment: Moment) -> float:
        """Punish length."""
        over = 0 if moment.ended is None else max(moment.ended.num_tokens - self.budget, 0)
        return -self.per_token * over


class Repetition:
    """A reply ends: minus the share of its word 4-grams that are repeated."""

    of_text = True
    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish going round in circles."""
        return 0.0 if moment.ended is None else -repeated_share(moment.ended.text)


class InvalidAction:
    """An action that does not fit counts as a wait and costs 0.1."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish nonsense."""
        return -0.1 if moment.invalid else 0.0


COMPONENTS: dict[str, Callable[..., RewardComponent]] = {
    "latency": Latency,
    "helpfulness": Helpfulness,
    "false_alarm": FalseAlarm,
    "miss": Miss,
    "premature": Premature,
    "overlap": Overlap,
    "verbosity": Verbosity,
    "repetition": Repetition,
    "invalid_action": InvalidAction,
}
