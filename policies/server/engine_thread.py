"""One engine in one thread: it steps whenever a session has a chunk, and tells each session what happened."""

import threading
from collections.abc import Callable

from envs.errors import SessionError
from envs.scenario import Audio
from policies.engine import Engine, Sampling, StepEvent

Listener = Callable[[StepEvent | None], None]  # None: what it was to be steered to holds from the next event on


class EngineThread:
    """Owns the engine. Every method may be called from any thread, and none waits for the model.

    Args:
        engine: Nobody else steps it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failure: BaseException | None = None  # what ended the thread, were it ever ended so
        self._listeners: dict[int, Listener] = {}
        self._steers: list[Callable[[], None]] = []
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step that it is in."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it steps."""
        return self._thread.is_alive()

    def open(self, sampling: Sampling, listener: Listener) -> int:
        """Admit a session; `listener` is called in the engine's thread with each of its events.

        Raises:
            CapacityError: when all slots are taken.
        """
        with self._news:
            session = self.engine.open(sampling)
            self._listeners[session] = listener
            return session

    def push(self, session: int, samples: Audio) -> None:
        """Hand over samples, as `Engine.push`, and with its errors."""
        self.engine.push(session, samples)
        with self._news:
            self._news.notify()

    def steer(
        self, session: int, *, sampling: Sampling | None = None, respond_at: int | None = None, cut: bool = False
    ) -> None:
        """Change how a session goes on before the next step, as `Engine.steer`; one that has gone is left alone.

        Its listener is called with None when that is done: events that it gets before are of the time before.
        """

        def steer() -> None:
            if session in self._listeners:
                self.engine.steer(session, sampling=sampling, respond_at=respond_at, cut=cut)
                self._listeners[session](None)

        with self._news:
            self._steers.append(steer)
            self._news.notify()

    def close(self, session: int) -> None:
        """End a session and free its slot, where the engine has not done so."""
        with self._news:
            if self._listeners.pop(session, None) is not None:
                self.engine.close(session)

    def _run(self) -> None:
        try:
            while self._wait():
                for event in self.engine.step():
                    self._tell(event)
        except BaseException as error:  # the server has to know: it is not ready any more
            self.failure = error
            for session in list(self._listeners):
                reason = SessionError(f"session {session} was ended: the engine's thread failed: {error}")
                self._tell(StepEvent(session, -1, "ended", None, (), False, error=reason))
            raise

    def _wait(self) -> bool:
        """Return when there is something to step for, or False when the thread is to end."""
        with self._news:
            self._news.wait_for(lambda: self._stopping or self._steers or self.engine.waiting_chunks)
            steers, self._steers = self._steers, []
            for steer in steers:  # nobody opens or closes meanwhile
                steer()
            return not self._stopping

    def _tell(self, event: StepEvent) -> None:
        with self._news:
            ended = event.decision == "ended"
            listener = self._listeners.pop(event.session, None) if ended else self._listeners.get(event.session)
        if listener is not None:
            listener(event)
