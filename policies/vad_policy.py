"""The turn-taking baseline: a voice activity detector that answers whenever somebody has finished speaking."""

import math

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.reference_reply import CANNED_REPLY
from envs.tokenizer import TextTokenizer
from policies.canned_reply import CannedReplyPolicy
from policies.silero import FRAME, SileroVAD


class SileroVADPolicy(CannedReplyPolicy):
    """Speaks when a voice has ended: enough frames of speech, then silence for `turn_end_s`.

    A turn that ends while it speaks itself gets no reply.

    Args:
        num_slots: Streams at once.
        tokenizer: The environment's.
        tokens_per_chunk: The environment's.
        seed: Of nothing; all baselines take one.
        text: What it says.
        threshold: Probability from which a frame is speech.
        speech_s: Seconds of speech that make a turn.
        turn_end_s: Seconds without speech that end it.

    Raises:
        PolicyError: when silero-vad is not installed.
    """

    def __init__(
        self,
        num_slots: int,
        tokenizer: TextTokenizer,
        tokens_per_chunk: int,
        seed: int = 0,
        text: str = CANNED_REPLY,
        *,
        threshold: float = 0.5,
        speech_s: float = 0.25,
        turn_end_s: float = 0.6,
    ) -> None:
        super().__init__(num_slots, tokenizer, tokens_per_chunk, seed, text)
        self.threshold = threshold
        self.least_voiced, self.least_quiet = (math.ceil(s * SAMPLE_RATE / FRAME) for s in (speech_s, turn_end_s))
        self.detector = SileroVAD(num_slots)
        self.pending = np.zeros((num_slots, FRAME), np.float32)  # samples that have not filled a frame yet
        self.num_pending = np.zeros(num_slots, np.int64)
        self.voiced = np.zeros(num_slots, np.int64)  # frames of speech in the present turn
        self.quiet = np.zeros(num_slots, np.int64)  # frames since the last of them

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget what was heard."""
        super().reset(mask)
        self.detector.reset(mask)
        for array in (self.pending, self.num_pending, self.voiced, self.quiet):
            array[mask] = 0

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return where a turn has ended within the newest chunk.

        A chunk is twelve and a half frames, and slots begin at different chunks: each carries its own remainder.
        """
        samples = np.zeros((self.num_slots, FRAME + CHUNK_SAMPLES), np.float32)
        for slot, held in enumerate(self.num_pending):
            samples[slot, :held] = self.pending[slot, :held]
            samples[slot, held : held + CHUNK_SAMPLES] = audio[slot]
        total = self.num_pending + CHUNK_SAMPLES
        ended = np.zeros(self.num_slots, bool)
        for first in range(0, int(total.max()) - FRAME + 1, FRAME):
            slots = np.flatnonzero(total >= first + FRAME)
            ended[slots] |= self._hear(samples[slots, first : first + FRAME], slots)
        self.num_pending = total % FRAME
        for slot, held in enumerate(self.num_pending):
            self.pending[slot, :held] = samples[slot, total[slot] - held : total[slot]]
        return ended

    def _hear(self, frames: NDArray[np.float32], slots: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Take one frame of some slots, float32 [S, 512]; return whose turn has ended by it: bool [S]."""
        speech = self.detector.probabilities(frames, slots) >= self.threshold
        voiced, quiet = self.voiced[slots] + speech, np.where(speech, 0, self.quiet[slots] + 1)
        over = quiet >= self.least_quiet
        self.voiced[slots], self.quiet[slots] = np.where(over, 0, voiced), quiet
        return over & (voiced >= self.least_voiced)
