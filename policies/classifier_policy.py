"""The classifier baseline: names the sound that is on, and says the first reference reply to it."""

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_SAMPLES
from envs.log_mel import CHUNK_FRAMES, CONTEXT_SAMPLES, N_MELS, log_mel
from envs.tokenizer import TextTokenizer
from policies.canned_reply import ReplyChoicePolicy
from policies.debounce import Debounce
from policies.sound_classifier import WINDOW_CHUNKS, SoundClassifier, window_statistics


class SoundClassifierPolicy(ReplyChoicePolicy):
    """Slides a sound classifier over streams; a sound is answered once while it lasts.

    Args:
        classifier: A trained one.
        num_slots: Streams at once.
        tokenizer: The environment's.
        tokens_per_chunk: The environment's.
    """

    def __init__(
        self, classifier: SoundClassifier, num_slots: int, tokenizer: TextTokenizer, tokens_per_chunk: int
    ) -> None:
        super().__init__(num_slots, tokenizer, tokens_per_chunk, classifier.replies)
        self.classifier = classifier
        self.debounce = Debounce(classifier.trigger, num_slots, len(classifier.labels))
        self.context = np.zeros((num_slots, CONTEXT_SAMPLES), np.float32)
        self.frames = np.zeros((num_slots, WINDOW_CHUNKS, CHUNK_FRAMES, N_MELS), np.float32)
        self.fresh = np.ones(num_slots, bool)  # nothing has been heard yet
        self.probabilities: list[float | None] = [None] * num_slots

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget what was heard and answered."""
        super().reset(mask)
        self.debounce.reset(mask)
        self.context[mask], self.fresh[mask] = 0, True
        for slot in np.flatnonzero(mask):
            self.probabilities[slot] = None

    def choose(self, audio: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the label that each stream answers: its place is that of its reply."""
        for slot in range(self.num_slots):
            newest = log_mel(audio[slot], self.context[slot])
            self.frames[slot] = newest if self.fresh[slot] else np.concatenate([self.frames[slot, 1:], newest[None]])
        self.fresh[:] = False
        self.context = audio[:, CHUNK_SAMPLES - CONTEXT_SAMPLES :].copy()
        heard = self.classifier.probabilities(window_statistics(self.frames.reshape(self.num_slots, -1, N_MELS)))
        free = ~self.speaking
        self.probabilities = [float(p) if f else None for p, f in zip(heard.max(axis=1), free, strict=True)]
        return self.debounce.step(heard, free)

    @property
    def response_probabilities(self) -> list[float | None]:
        """Probability of the likeliest label; None in the middle of a reply."""
        return self.probabilities
