"""The turn-taking baseline: a voice activity detector that answers whenever somebody has finished speaking."""

import math
import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import PolicyError
from envs.reference_reply import CANNED_REPLY
from envs.tokenizer import TextTokenizer
from policies.canned_reply import CannedReplyPolicy

if TYPE_CHECKING:
    import torch

FRAME = 512  # samples that the detector takes at once at 16 kHz: 32 ms
CONTEXT = 64  # samples before a frame that it sees as well
STATE = (2, 128)  # its recurrent state a stream


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
        self.detector = _load_detector()
        self.state = np.zeros((num_slots, *STATE), np.float32)
        self.context = np.zeros((num_slots, CONTEXT), np.float32)
        self.pending = np.zeros((num_slots, FRAME), np.float32)  # samples that have not filled a frame yet
        self.num_pending = np.zeros(num_slots, np.int64)
        self.voiced = np.zeros(num_slots, np.int64)  # frames of speech in the present turn
        self.quiet = np.zeros(num_slots, np.int64)  # frames since the last of them

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget what was heard."""
        super().reset(mask)
        for array in (self.state, self.context, self.pending, self.num_pending, self.voiced, self.quiet):
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
        speech = self._probabilities(frames, slots) >= self.threshold
        voiced, quiet = self.voiced[slots] + speech, np.where(speech, 0, self.quiet[slots] + 1)
        over = quiet >= self.least_quiet
        self.voiced[slots], self.quiet[slots] = np.where(over, 0, voiced), quiet
        return over & (voiced >= self.least_voiced)

    def _probabilities(self, frames: NDArray[np.float32], slots: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return P(speech) of one frame of some slots, and move their recurrent states on: float32 [S]."""
        import torch  # noqa: PLC0415 - heavy

        heard = np.concatenate([self.context[slots], frames], axis=1)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a frame is so little work that several threads only wait for each other
        try:
            with torch.inference_mode(), torch.jit.optimized_execution(False):  # else each batch size is compiled anew
                state = torch.from_numpy(self.state[slots]).transpose(0, 1).contiguous()
                probabilities, state = self.detector(torch.from_numpy(heard), state)
        finally:
            torch.set_num_threads(threads)
        self.state[slots] = state.transpose(0, 1).numpy()
        self.context[slots] = frames[:, -CONTEXT:]
        return np.asarray(probabilities[:, 0].numpy(), np.float32)


@cache
def _load_detector() -> "torch.nn.Module":
    """Load the detector for 16 kHz: (float32 [S, 64 + 512], state [2, S, 128]) -> (P(speech) [S, 1], state).

    It is what stands inside the module that the package hands out: that one keeps a single state for the whole batch,
    and forgets all of it when the batch's size changes.
    """
    import torch  # noqa: PLC0415 - heavy

    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PolicyError("the baseline 'vad' needs the package silero-vad: uv sync --extra vad") from error
    finally:
        torch.set_num_threads(threads)  # importing it sets one thread for everybody
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the format that it comes in is old
        detector: torch.nn.Module = load_silero_vad()._model
    return detector
