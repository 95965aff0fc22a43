"""How much audio a session may send: in all, and how much faster than it could be heard."""

import time
from collections.abc import Callable

from policies.server.limits import Close, Limits


class AllowanceError(Exception):
    """More audio than a session may send; it is closed.

    Args:
        close: With which code.
        code: Of the error event before it.
        message: What was sent, and what is allowed.
    """

    def __init__(self, close: Close, code: str, message: str) -> None:
        super().__init__(message)
        self.close, self.code = close, code


class AudioAllowance:
    """Counts the audio of one session: a budget, and a bucket that fills at a multiple of real time.

    Args:
        limits: Has both.
        now: Seconds of a clock.
    """

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._now = limits, now
        self.used_s = 0.0
        self._free_s, self._last = limits.audio_burst_s, now()

    def take(self, seconds: float) -> None:
        """Use so much of it.

        Raises:
            AllowanceError: when there is not so much left, or not yet.
        """
        limits, now = self._limits, self._now()
        self._free_s = min(self._free_s + limits.audio_rate * (now - self._last), limits.audio_burst_s)
        self._last = now
        if self.used_s + seconds > limits.audio_budget_s:
            budget = f"a session may send {limits.audio_budget_s:.0f} s of audio"
            raise AllowanceError(Close.AUDIO_BUDGET, "audio_budget_exceeded", budget)
        if seconds > self._free_s:
            rate = f"a session may send {limits.audio_burst_s:.0f} s at once, and {limits.audio_rate:g} s a second"
            raise AllowanceError(Close.AUDIO_RATE, "audio_rate_exceeded", f"audio comes too fast: {rate}")
        self.used_s += seconds
        self._free_s -= seconds
