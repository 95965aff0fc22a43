"""The engine: one batched loop for rollouts, evaluation and live audio.

All sessions that have heard a chunk advance in one step, at different positions. Who may come in, who does what, where
keys and values lie and what is computed are separate pieces: `admission`, `scheduler`, `memory`, `runner`.
"""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from envs.audio import check_samples
from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import PolicyError, SessionError
from envs.scenario import Audio
from policies.engine.admission import Admission
from policies.engine.clock import Clock, WallClock
from policies.engine.recording import Recording
from policies.engine.runner import ModelRunner
from policies.engine.sampling import Sampling, biased, draw_tokens
from policies.engine.scheduler import Plan, plan_step
from policies.engine.session import Decision, Session, StepEvent
from policies.engine.stats import EngineStats
from policies.modeling_lalm import LALM
from policies.token_layout import TokenLayout

_MOVED = 1 << 20  # log-probabilities, up to so many, are drawn from on the CPU: a GPU is waited for once, not thrice
MOST_WAITING_S = 120.0  # of audio that a session may have pushed and no step has taken: memory stays bounded


class Engine:
    """`open() -> session`, `push(session, samples)`, `step() -> events`, `close(session)`.

    Any thread may open, push and close while another steps; a push never waits for the model.

    Args:
        model: Is set to evaluation. Its weights may be changed in place; moved or replaced, they want a new engine.
        num_slots: Sessions at once.
        full_duplex: Decide in the middle of replies too: a reply goes on or is cut after every chunk.
        clock: Of latencies; default: the wall's.
        chunks_per_step: At most so many chunks of a session go into a step: with 1, every chunk outside of replies
            gets a decision of its own, however late it is stepped. None: all that it has pushed.
        idle_limit_s: A session that has pushed nothing for so long is ended, and its slot freed; None: never.
        recording: Takes down who came, what they said and when a step began, to be played again.
        layout: Of its sessions, over the model's token ids; default: the model's own.

    Raises:
        PolicyError: when there is to be no slot, or a step is to take no chunk.
    """

    def __init__(
        self,
        model: LALM,
        num_slots: int = 1,
        *,
        full_duplex: bool = False,
        clock: Clock | None = None,
        chunks_per_step: int | None = None,
        idle_limit_s: float | None = None,
        recording: Recording | None = None,
        layout: TokenLayout | None = None,
    ) -> None:
        if num_slots < 1:
            raise PolicyError(f"num_slots is {num_slots}, expected at least 1")
        if chunks_per_step is not None and chunks_per_step < 1:
            raise PolicyError(f"chunks_per_step is {chunks_per_step}, expected None or at least 1")
        self.model = model.eval()
        self.layout = layout or model.layout
        self.full_duplex = full_duplex
        self.clock: Clock = clock or WallClock()
        self.chunks_per_step = chunks_per_step
        self.idle_limit_s = idle_limit_s
        self.recording = recording
        self.stats = EngineStats(num_slots)
        self.sessions: dict[int, Session] = {}
        self._runner = ModelRunner(self.model, num_slots, self.layout)
        self._admission = Admission(num_slots)
        self._lock = threading.Lock()  # of the sessions, their audio, and who is in
        self._step_lock = threading.Lock()  # one step at a time
        self._leaving: list[int] | None = None  # slots to free when the step has ended; None between steps
        self._next_id = 0

    def warm_up(self) -> None:
        """Do now what a GPU needs once for each size of batch, so that no session waits for it later.

        A small model takes a fraction of a second, and a large one seconds; on a CPU there is nothing to do.
        """
        with self._step_lock:
            self._runner.warm_up()

    def open(self, sampling: Sampling | None = None, instruction: Sequence[int] = ()) -> int:
        """Admit a session and return its id.

        Args:
            sampling: How it decides and writes.
            instruction: Ids of a text that stands before its first chunk; there has to be room for it in the window.

        Raises:
            CapacityError: when all slots are taken.
        """
        sampling = sampling or Sampling()
        with self._lock:
            slot = self._admission.admit()
            context = self._runner.features.context_samples
            session = Session.begin(self._next_id, slot, self.layout, sampling, context, instruction)
            session.pushed_at = self.clock.now()
            self.sessions[session.id] = session
            self._next_id += 1
            if self.recording is not None:
                self.recording.opened(session.id, sampling, instruction)
            return session.id

    def push(self, session: int, samples: Audio, sample_rate: float = SAMPLE_RATE) -> None:
        """Hand over samples of a session.

        Args:
            session: Its id.
            samples: Floats [n] in [-1, 1], mono, any n.
            sample_rate: Of the samples, in Hz; none but 16,000 is taken.

        Raises:
            SessionError: when there is no such session, or too much that it has pushed is waiting for a step.
            AudioError: when they are no such samples. The session stays as it was.
        """
        with self._lock:
            own = self._find(session)
            samples = check_samples(samples, f"session {session}", sample_rate)
            waiting_s = (len(own.audio.waiting) + len(samples)) / CHUNK_SAMPLES * CHUNK_S
            if waiting_s > MOST_WAITING_S:
                raise SessionError(
                    f"session {session}: {waiting_s:.0f} s of audio would be waiting, expected at most"
                    f" {MOST_WAITING_S:.0f} s; call step() between pushes"
                )
            own.audio.push(samples)
            if self.recording is not None:
                self.recording.pushed(session, samples)
            own.pushed_at = self.clock.now()
            while len(own.arrivals) < own.audio.num_complete:
                own.arrivals.append(self.clock.arrival(own.chunks_heard + len(own.arrivals)))

    @property
    def waiting_chunks(self) -> int:
        """Complete chunks that were pushed and no step has taken, over all sessions."""
        with self._lock:
            return sum(session.audio.num_complete for session in self.sessions.values())

    def steer(
        self, session: int, *, sampling: Sampling | None = None, respond_at: int | None = None, cut: bool = False
    ) -> None:
        """Change how a session goes on from its next step; waits for a step that is running.

        Args:
            session: Its id.
            sampling: Takes the place of its own; draws go on where they were.
            respond_at: Its first decision from this chunk on is `response`, whatever the probability.
            cut: The reply that it is saying ends here without an end token, as full duplex cuts one; one that it was
                told to open before is not opened.

        Raises:
            SessionError: when there is no such session.
        """
        with self._step_lock, self._lock:
            own = self._find(session)
            own.sampling = sampling or own.sampling
            if cut:
                own.reply = own.respond_at = None
            own.respond_at = own.respond_at if respond_at is None else respond_at
            if self.recording is not None:
                self.recording.steered(session, sampling, respond_at, cut)

    def close(self, session: int) -> None:
        """End a session and free its slot.

        Raises:
            SessionError: when there is no such session.
        """
        with self._lock:
            self._remove(self._find(session))

    def step(self) -> list[StepEvent]:
        """Advance every session that has heard a new chunk; return one event for each of them, by session id.

        A step that fails ends the sessions that were in it; the engine and the others go on.
        """
        with self._step_lock:
            with self._lock:
                events = self._expire()
                heard, owners, windows = self._take_audio()
                if self.recording is not None:
                    self.recording.stepped()
                self._leaving = []
            try:
                events += self._advance(heard, owners, windows) if heard else []
            except Exception as error:  # whatever it is, it is handed to those that it concerns
                events += self._fail(heard, error)
            except BaseException as error:  # an interruption: who was in the step is in no state to go on
                self._fail(heard, error)
                raise
            finally:
                with self._lock:
                    for slot in self._leaving or ():
                        self._admission.release(slot)
                    self._leaving = None
            with self._lock:
                events = [e for e in events if e.session in self.sessions or e.decision == "ended"]
                events.sort(key=lambda event: event.session)
                if self.recording is not None:
                    self.recording.happened(events)
                self.stats.add(events, self.sessions)
            return events

    def _find(self, session: int) -> Session:
        if session in self.sessions:
            return self.sessions[session]
        fate = "is closed" if isinstance(session, int) and 0 <= session < self._next_id else "was never opened"
        opened = ", ".join(map(str, self.sessions)) or "none"
        raise SessionError(f"session {session!r} {fate}, expected one that open() returned; open are {opened}")

    def _remove(self, session: Session) -> None:
        """Forget a session; a step that is running may still write into its slot."""
        if self.recording is not None:
            self.recording.closed(session.id)
        del self.sessions[session.id]
        if self._leaving is None:
            self._admission.release(session.slot)
        else:
            self._leaving.append(session.slot)

    def _expire(self) -> list[StepEvent]:
        """End the sessions that have been idle for too long."""
        if self.idle_limit_s is None:
            return []
        now, events = self.clock.now(), []
        for session in list(self.sessions.values()):
            if (idle := now - session.pushed_at) > self.idle_limit_s:
                reason = f"it pushed nothing for {idle:.1f} s, expected at most {self.idle_limit_s:.1f} s"
                events.append(self._end(session, SessionError(f"session {session.id} was ended: {reason}")))
        return events

    def _fail(self, sessions: Sequence[Session], error: BaseException) -> list[StepEvent]:
        with self._lock:
            events = []
            for session in sessions:
                if session.id in self.sessions:
                    reason = SessionError(f"session {session.id} was ended: the step failed: {error}")
                    reason.__cause__ = error
                    events.append(self._end(session, reason))
            return events

    def _end(self, session: Session, error: SessionError) -> StepEvent:
        self._remove(session)
        return StepEvent(session.id, session.chunks_heard - 1, "ended", None, (), False, error=error)

    def _take_audio(self) -> tuple[list[Session], list[Session], list[Tensor]]:
        """Take all complete chunks; return the sessions that had one, and each chunk's owner and window."""
        heard, owners, windows = [], [], []
        for session in self.sessions.values():
            taken = session.audio.take(self.chunks_per_step)
            if taken:
                session.chunks_heard += len(taken)
                # A reply goes on for all chunks that were heard; one that is decided on has the time of one.
                going_on = session.reply is not None and not self.full_duplex
                session.budget = (len(taken) if going_on else 1) * self.layout.tokens_per_chunk
                if session.sampling.unhurried:
                    session.budget = self.model.config.max_reply_tokens
                for _ in taken:
                    session.arrival = session.arrivals.popleft()
                heard.append(session)
                windows += taken
                owners += [session] * len(taken)
        return heard, owners, windows

    @torch.inference_mode()
    def _advance(self, heard: list[Session], owners: list[Session], windows: list[Tensor]) -> list[StepEvent]:
        """Encode what was heard, take the decisions that are due, and say what there is time to say."""
        self._runner.begin(heard)
        self._runner.encode(owners, windows)
        plan = plan_step(heard, self.full_duplex)
        self._drain(plan)
        events = {s.id: _Draft(s) for s in heard}
        self._decide(plan.decide, events)
        self._speak(plan.speak, [s for s in plan.decide if s.reply is not None], events)
        return [draft.event() for draft in events.values()]

    def _drain(self, plan: Plan) -> None:
        """Feed whole queues, and the pending token of those that are speaking.

        A queue longer than the window (a stalled caller) is fed in windows, so that memory stays bounded.
        """
        longest = self.layout.window_chunks
        while behind := [s for s in plan.decide if len(s.queue) > longest]:
            self._runner.run_blocks(behind, [longest] * len(behind))
        counts = [len(s.queue) for s in plan.decide] + [0] * len(plan.speak)
        self._runner.run_blocks(plan.decide + plan.speak, counts)

    def _decide(self, sessions: Sequence[Session], drafts: "dict[int, _Draft]") -> None:
        """Emit one control token in each session."""
        if not sessions:
            return
        odds = self.model.decision_log_probs(self._runner.hidden_of(sessions)).cpu()
        log_probs = biased(odds, [s.sampling.bias for s in sessions])
        probabilities = log_probs[:, 1].exp().tolist()
        for session, p, row in zip(sessions, probabilities, log_probs.tolist(), strict=True):
            asked = session.respond_at is not None and session.chunks_heard > session.respond_at
            draft, speaking = drafts[session.id], session.reply is not None
            may = speaking or session.sampling.opens
            respond = asked or (may and session.sampling.decide(p, session.rng))
            session.respond_at = None if asked else session.respond_at
            session.stream.emit(self.layout.response if respond else self.layout.silent)
            draft.probability, draft.log_prob = p, row[int(respond)]
            draft.decision = ("speaking" if speaking else "response") if respond else "silent"
            draft.cut = speaking and not respond
            draft.decision_s = max(self.clock.emission(session.arrival) - session.arrival, 0.0)
            if not respond:
                session.reply = None
            elif not speaking:
                session.reply = []

    def _speak(self, ready: Sequence[Session], opened: list[Session], drafts: "dict[int, _Draft]") -> None:
        """Write reply tokens while there is time for them.

        Args:
            ready: Sessions whose hidden state predicts their next token.
            opened: Sessions whose control token has still to be fed.
            drafts: Take the tokens, by session.
        """
        while ready or opened:
            if ready:
                self._write(ready, drafts)
            ready = [s for s in ready if s.reply is not None and s.budget > 0] + opened
            opened = []
            if ready:
                self._runner.run_blocks(ready, [0] * len(ready))

    def _write(self, sessions: Sequence[Session], drafts: "dict[int, _Draft]") -> None:
        """Say one token in each session; the end token makes it silent again."""
        log_probs = self.model.content_log_probs(self._runner.hidden_of(sessions))
        if log_probs.numel() <= _MOVED:
            log_probs = log_probs.cpu()
        tokens, end = [self.layout.end] * len(sessions), self.layout.end
        longest = self.model.config.max_reply_tokens
        free = [i for i, s in enumerate(sessions) if not s.sampling.must_end(s.reply or (), longest)]
        if free:
            chosen = [sessions[i] for i in free]
            drawn = draw_tokens(log_probs[free], [s.sampling for s in chosen], [s.rng for s in chosen])
            for i, token in zip(free, drawn, strict=True):
                tokens[i] = token
        own = log_probs.gather(1, torch.tensor(tokens, device=log_probs.device).unsqueeze(1)).squeeze(1).tolist()
        for session, token, log_prob in zip(sessions, tokens, own, strict=True):
            draft = drafts[session.id]
            draft.tokens.append((token, log_prob))
            session.stream.emit(token)
            session.budget -= 1
            if session.reply == []:
                emitted = self.clock.emission(session.arrival) - session.arrival
                draft.first_token_s = max(emitted, draft.decision_s or 0.0)
            if token == end:
                session.reply = None
            elif session.reply is not None:
                session.reply.append(token)


class _Draft:
    """An event in the making."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.decision: Decision = "speaking"
        self.probability: float | None = None
        self.log_prob: float | None = None
        self.cut = False
        self.tokens: list[tuple[int, float]] = []
        self.decision_s: float | None = None
        self.first_token_s: float | None = None

    def event(self) -> StepEvent:
        session = self.session
        return StepEvent(
            session=session.id,
            chunk=session.chunks_heard - 1,
            decision=self.decision,
            probability=self.probability,
            token_ids=tuple(token for token, _ in self.tokens),
            reply_ended=bool(self.tokens) and session.reply is None,
            log_prob=self.log_prob,
            token_log_probs=tuple(log_prob for _, log_prob in self.tokens),
            embeddings=session.last_embedding,
            reply_cut=self.cut,
            decision_latency_s=self.decision_s,
            first_token_latency_s=self.first_token_s,
        )
