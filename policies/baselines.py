"""Policies without a model: what a trained one has to beat."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.errors import PolicyError, did_you_mean
from envs.reference_reply import CANNED_REPLY
from envs.scenario import Scenario
from envs.tokenizer import TextTokenizer
from policies.base import Policy
from policies.canned_reply import CannedReplyPolicy
from policies.classifier_policy import SoundClassifierPolicy
from policies.oracle import OraclePolicy
from policies.sound_classifier import SoundClassifier
from policies.vad_policy import SileroVADPolicy


class SilentPolicy(CannedReplyPolicy):
    """Never speaks."""

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return False everywhere."""
        return np.zeros(len(audio), bool)


class AlwaysPolicy(CannedReplyPolicy):
    """Speaks whenever it is not speaking."""

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return True everywhere."""
        return np.ones(len(audio), bool)


class RandomPolicy(CannedReplyPolicy):
    """Speaks after a chunk with probability `RATE`, about as often as streams of the Proactive ability want it."""

    RATE = 0.05

    def __init__(
        self,
        num_slots: int,
        tokenizer: TextTokenizer,
        tokens_per_chunk: int,
        seed: int = 0,
        text: str = CANNED_REPLY,
    ) -> None:
        super().__init__(num_slots, tokenizer, tokens_per_chunk, seed, text)
        self.episodes = 0
        self.generators = [np.random.default_rng([seed, i]) for i in range(num_slots)]

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Give every new stream its own generator, so that results do not depend on the batch."""
        super().reset(mask)
        for slot in np.flatnonzero(mask):
            self.generators[slot] = np.random.default_rng([self.seed, self.episodes])
            self.episodes += 1

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Draw per stream."""
        return np.array([g.random() < self.RATE for g in self.generators])


class EnergyPolicy(CannedReplyPolicy):
    """Speaks when a chunk is `RISE_DB` louder than the running background level."""

    RISE_DB = 10.0
    FOLLOW = 0.1  # share of the way that the background level follows each chunk

    def __init__(
        self,
        num_slots: int,
        tokenizer: TextTokenizer,
        tokens_per_chunk: int,
        seed: int = 0,
        text: str = CANNED_REPLY,
    ) -> None:
        super().__init__(num_slots, tokenizer, tokens_per_chunk, seed, text)
        self.background = np.full(num_slots, np.nan)

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget the background level."""
        super().reset(mask)
        self.background[mask] = np.nan

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Compare the chunk's level with the background's, in dB."""
        level = 10 * np.log10(np.mean(np.square(audio, dtype=np.float64), axis=1) + 1e-10)
        background = np.where(np.isnan(self.background), level, self.background)
        self.background = background + self.FOLLOW * (level - background)
        return level > background + self.RISE_DB


_CANNED: dict[str, Callable[..., CannedReplyPolicy]] = {
    "silent": SilentPolicy,
    "always": AlwaysPolicy,
    "random": RandomPolicy,
    "energy": EnergyPolicy,
}
NEED_NOTHING = tuple(_CANNED)  # these can be made of a batch's shape alone
BASELINES = (*NEED_NOTHING, "vad", "classifier", "oracle")


def make_baseline(
    name: str,
    num_slots: int,
    tokenizer: TextTokenizer,
    tokens_per_chunk: int,
    seed: int = 0,
    *,
    classifier: SoundClassifier | None = None,
    scenario_of: Callable[[int], Scenario] | None = None,
) -> Policy:
    """Return a baseline by name.

    Args:
        name: One of `BASELINES`.
        num_slots: Streams at once.
        tokenizer: The environment's.
        tokens_per_chunk: The environment's.
        seed: Of what it draws.
        classifier: What "classifier" listens with.
        scenario_of: Tells "oracle" the scenario that slot i plays.

    Raises:
        PolicyError: when there is none of that name, or it lacks what it needs.
    """
    if name == "vad":
        return SileroVADPolicy(num_slots, tokenizer, tokens_per_chunk, seed)
    if name == "classifier":
        if classifier is None:
            raise PolicyError("the baseline 'classifier' needs classifier=SoundClassifier.train(...)")
        return SoundClassifierPolicy(classifier, num_slots, tokenizer, tokens_per_chunk)
    if name == "oracle":
        if scenario_of is None:
            raise PolicyError("the baseline 'oracle' needs scenario_of=, which returns the scenario of a slot")
        return OraclePolicy(scenario_of, num_slots, tokenizer, tokens_per_chunk)
    if name not in _CANNED:
        raise PolicyError(f"no baseline is called {name!r}{did_you_mean(name, BASELINES)}")
    return _CANNED[name](num_slots, tokenizer, tokens_per_chunk, seed)
