"""Silero VAD (extra `vad`): the probability that somebody speaks, frame by frame."""

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.errors import PolicyError

if TYPE_CHECKING:
    import torch

FRAME = 512  # samples that the detector takes at once at 16 kHz: 32 ms
CONTEXT = 64  # samples before a frame that it sees as well
STATE = (2, 128)  # its recurrent state a stream

Floats = NDArray[np.float32]


class SileroVAD:
    """The detector over a batch of streams, each with a state of its own.

    Args:
        num_slots: Streams.

    Raises:
        PolicyError: when silero-vad is not installed.
    """

    def __init__(self, num_slots: int) -> None:
        self.detector = load_detector()
        self.state = np.zeros((num_slots, *STATE), np.float32)
        self.context = np.zeros((num_slots, CONTEXT), np.float32)

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget what was heard."""
        self.state[mask] = self.context[mask] = 0

    def probabilities(self, frames: Floats, slots: NDArray[np.intp]) -> Floats:
        """Hear one frame of some streams.

        Args:
            frames: float32 [S, 512] in [-1, 1].
            slots: Whose they are: [S].

        Returns:
            P(speech), float32 [S].
        """
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
def load_detector() -> "torch.nn.Module":
    """Load the detector for 16 kHz: (float32 [S, 64 + 512], state [2, S, 128]) -> (P(speech) [S, 1], state).

    It is what stands inside the module that the package hands out: that one keeps a single state for the whole batch,
    and forgets all of it when the batch's size changes.

    Raises:
        PolicyError: when silero-vad is not installed.
    """
    import torch  # noqa: PLC0415 - heavy

    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PolicyError("Silero's detector of voices needs the package silero-vad: uv sync --extra vad") from error
    finally:
        torch.set_num_threads(threads)  # importing it sets one thread for everybody
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the format that it comes in is old
        detector: torch.nn.Module = load_silero_vad()._model
    return detector
