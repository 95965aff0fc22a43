"""Policies without a model: what a trained one has to beat."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.episode import RESPOND, TOKENS, WAIT
from envs.errors import PolicyError, did_you_mean
from envs.tokenizer import TextTokenizer
from policies.base import Actions, Observations

CANNED_REPLY = "I heard something. Please check."


class CannedReplyPolicy:
    """Decides by `wants_to_speak`, one override each, and says one canned reply, K tokens a chunk."""

    def __init__(
        self,
        num_slots: int,
        tokenizer: TextTokenizer,
        tokens_per_chunk: int,
        seed: int = 0,
        text: str = CANNED_REPLY,
    ) -> None:
        self.num_slots, self.seed = num_slots, seed
        ids = [*tokenizer.encode(text), tokenizer.end_id]
        ids += [tokenizer.vocab_size] * (-len(ids) % tokens_per_chunk)
        self.reply = np.array(ids, np.int64).reshape(-1, tokens_per_chunk)  # [chunks, K]
        self.padding = np.full(tokens_per_chunk, tokenizer.vocab_size, np.int64)
        self.said = np.full(num_slots, len(self.reply))  # rows said of the present reply

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Begin new streams where `mask` is True."""
        self.said[mask] = len(self.reply)

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Decide from the newest chunks: float32 [B, 6400] -> bool [B]."""
        raise NotImplementedError(f"{type(self).__name__} must say when it wants to speak")

    def act(self, observations: Observations) -> Actions:
        """Begin the canned reply where wanted and go on with those begun."""
        wants = self.wants_to_speak(observations["audio"])
        kinds = np.full(self.num_slots, WAIT, np.int64)
        tokens = np.tile(self.padding, (self.num_slots, 1))
        for slot in range(self.num_slots):
            if self.said[slot] < len(self.reply):
                kinds[slot] = TOKENS
            elif wants[slot]:
                kinds[slot], self.said[slot] = RESPOND, 0
            else:
                continue
            tokens[slot] = self.reply[self.said[slot]]
            self.said[slot] += 1
        return {"kind": kinds, "tokens": tokens}

    @property
    def response_probabilities(self) -> list[float | None]:
        """None everywhere: these policies have no probability."""
        return [None] * self.num_slots


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
    episodes = 0

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Give every new stream its own generator, so that results do not depend on the batch."""
        super().reset(mask)
        if self.episodes == 0:
            self.generators = [np.random.default_rng([self.seed, i]) for i in range(self.num_slots)]
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


BASELINES: dict[str, Callable[..., CannedReplyPolicy]] = {
    "silent": SilentPolicy,
    "always": AlwaysPolicy,
    "random": RandomPolicy,
    "energy": EnergyPolicy,
}


def make_baseline(
    name: str, num_slots: int, tokenizer: TextTokenizer, tokens_per_chunk: int, seed: int = 0
) -> CannedReplyPolicy:
    """Return a baseline by name.

    Raises:
        PolicyError: when there is none of that name.
    """
    if name not in BASELINES:
        raise PolicyError(f"no baseline is called {name!r}{did_you_mean(name, BASELINES)}")
    return BASELINES[name](num_slots, tokenizer, tokens_per_chunk, seed)
