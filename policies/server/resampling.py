"""From the protocol's 24 kHz to the engine's 16 kHz, piece by piece, whatever the pieces."""

import numpy as np

from envs.clock import CHUNK_SAMPLES
from envs.scenario import Audio

PROTOCOL_RATE = 24_000  # Hz, of the protocol
_UP, _DOWN = 2, 3
INPUT_CHUNK = CHUNK_SAMPLES * _DOWN // _UP  # input samples in a chunk: 9,600
_HALF = 36  # input samples to each side of a filter's centre
_CUTOFF_HZ = 7_600.0


class StreamResampler:
    """A causal polyphase filter, 24 kHz to 16 kHz: a windowed sinc (Kaiser), 1.5 ms late.

    Its output is the same to the bit however the input is cut: every output sample is one sum of products, in one
    order, of the same inputs.
    """

    def __init__(self) -> None:
        self._phases = [_taps(0.0), _taps(0.5)]  # outputs at input samples 3 m, and between 3 m + 1 and 3 m + 2
        self._past = np.zeros(2 * _HALF, np.float32)
        self._taken = 0  # input samples so far

    def push(self, samples: Audio) -> Audio:
        """Take input samples float32 [n] in [-1, 1], any n; return all output that they complete, [-1, 1]."""
        first, end = self._taken, self._taken + len(samples)
        window = np.concatenate((self._past, samples))
        done = [(first + 2 - phase) // _DOWN for phase in range(2)]  # outputs of each phase before `first`
        count = [(end + 2 - phase) // _DOWN for phase in range(2)]  # and before `end`
        outputs = np.empty((max(count) - min(done), 2), np.float32)
        for phase, taps in enumerate(self._phases):
            oldest = _DOWN * done[phase] + phase - first  # input of the first output, in the window
            rows, step = count[phase] - done[phase], window.itemsize
            # What each output hears, oldest first: a view, which `as_strided` takes nine times as long to make.
            heard = np.ndarray((rows, len(taps)), window.dtype, window, oldest * step, (_DOWN * step, step))
            # Row by row and in one order, which `heard @ taps` has not: BLAS has others for few rows.
            outputs[done[phase] - min(done) : count[phase] - min(done), phase] = np.einsum("ij,j->i", heard, taps)
        self._past, self._taken = window[len(window) - 2 * _HALF :], end
        flat, skip = outputs.reshape(-1), sum(done) - _UP * min(done)
        return flat[skip : skip + sum(count) - sum(done)].clip(-1.0, 1.0)


def _taps(shift: float) -> Audio:
    """Return the filter of one phase: float32 [2 * _HALF + 1], oldest input first."""
    offset = _HALF - np.arange(2 * _HALF + 1) + shift
    cutoff = 2 * _CUTOFF_HZ / PROTOCOL_RATE
    inside = np.clip(1 - (offset / (_HALF + 1)) ** 2, 0, None)
    taps = cutoff * np.sinc(cutoff * offset) * np.i0(8.0 * np.sqrt(inside)) / np.i0(8.0)
    return (taps / taps.sum()).astype(np.float32)
