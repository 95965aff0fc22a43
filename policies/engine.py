"""The engine: one batched loop for rollouts, evaluation and live audio.

The encoder side never waits: every chunk pushed is encoded in the next step. The decoder side drains the whole queue
of a session that is silent, or has just ended a reply, and emits one control token; in the middle of a reply it
decodes K tokens a chunk and leaves the queue alone (paper, section on FIFO inference). All sessions advance in one
batch, at different positions.
"""

import numpy as np
import torch
from torch import Tensor

from envs.audio import check_samples
from envs.clock import SAMPLE_RATE
from envs.errors import PolicyError
from envs.scenario import Audio
from policies.kv_slots import KVSlots
from policies.modeling_lalm import LALM
from policies.session import Decision, Sampling, Session, StepEvent
from policies.token_layout import TokenColumns

_SPEAKING: tuple[Decision, None, None] = ("speaking", None, None)


class Engine:
    """`open() -> session`, `push(session, samples)`, `step() -> events`, `close(session)`."""

    def __init__(self, model: LALM, num_slots: int = 1) -> None:
        self.model = model.eval()
        self.layout = model.layout
        self.features = model.make_features()
        self.memory = KVSlots(model, num_slots)
        self.sessions: dict[int, Session] = {}
        self._free = list(range(num_slots))[::-1]
        self._next_id = 0

    def open(self, sampling: Sampling | None = None) -> int:
        """Admit a session and return its id.

        Raises:
            PolicyError: when all slots are taken.
        """
        if not self._free:
            raise PolicyError(
                f"the engine's {len(self.sessions)} slots are all taken; close a session or ask for more slots"
            )
        sampling = sampling or Sampling(threshold=0.5)
        session = Session.fresh(self._next_id, self._free.pop(), self.layout, sampling, self.features.context_samples)
        self.memory.clear(session.slot)
        self.sessions[session.id] = session
        self._next_id += 1
        return session.id

    def push(self, session: int, samples: Audio, sample_rate: float = SAMPLE_RATE) -> None:
        """Hand over samples of a session.

        Args:
            session: Its id.
            samples: Floats [n] in [-1, 1], mono, any n.
            sample_rate: Of the samples, in Hz; none but 16,000 is taken.

        Raises:
            PolicyError: when there is no such session.
            AudioError: when they are no such samples; the session stays as it was.
        """
        self._find(session).audio.push(check_samples(samples, f"session {session}", sample_rate))

    def close(self, session: int) -> None:
        """End a session and free its slot.

        Raises:
            PolicyError: when there is no such session.
        """
        self._free.append(self._find(session).slot)
        del self.sessions[session]

    def _find(self, session: int) -> Session:
        """Return a session by its id.

        Raises:
            PolicyError: when there is none.
        """
        if session in self.sessions:
            return self.sessions[session]
        known = isinstance(session, int) and 0 <= session < self._next_id
        fate = "is closed" if known else "was never opened"
        opened = ", ".join(map(str, self.sessions)) or "none"
        raise PolicyError(f"session {session!r} {fate}, expected one that open() returned; open are {opened}")

    @torch.inference_mode()
    def step(self) -> list[StepEvent]:
        """Advance every session that has heard a new chunk; return one event for each of them, by session id."""
        heard = self._encode()
        silent = [s for s in heard if s.reply is None]
        probabilities = self._drain(silent)
        decided = {s.id: self._decide(s, p) for s, p in zip(silent, probabilities, strict=True)}
        spoken = self._decode([s for s in heard if s.reply is not None])
        events = []
        for s in heard:
            tokens = spoken.get(s.id, [])
            decision, probability, log_prob = decided.get(s.id, _SPEAKING)
            events.append(
                StepEvent(
                    session=s.id,
                    chunk=s.chunks_heard - 1,
                    decision=decision,
                    probability=probability,
                    token_ids=tuple(t for t, _ in tokens),
                    reply_ended=bool(tokens) and s.reply is None,
                    log_prob=log_prob,
                    token_log_probs=tuple(p for _, p in tokens),
                    embeddings=s.last_embedding,
                )
            )
        return events

    def _encode(self) -> list[Session]:
        """Encode all complete chunks of all sessions in one batch; return the sessions that had one."""
        owners, windows = [], []
        for session in self.sessions.values():
            taken = session.take_windows()
            windows += taken
            owners += [session] * len(taken)
        if not windows:
            return []
        samples = torch.stack(windows).to(self.model.device)
        features = self.features(samples, [owner.audio for owner in owners])
        for owner, embedding in zip(owners, self.model.encode(features), strict=True):
            owner.queue.append(embedding)
            owner.last_embedding = embedding
        return list({s.id: s for s in owners}.values())

    def _drain(self, sessions: list[Session]) -> Tensor:
        """Feed the whole queue of each session; return P(response) [B].

        A queue longer than the window (a stalled caller) is fed in windows, so that memory stays bounded.
        """
        if not sessions:
            return torch.empty(0)
        waiting = sessions
        while waiting:
            pieces, audio = [], []
            for s in waiting:
                count = min(len(s.queue), self.layout.window_chunks)
                pieces.append(s.stream.run(count))
                if s.stream.window_start > 0:
                    self.memory.move_prefix(s.slot, s.stream.prefix_position)
                audio.append([s.queue.popleft() for _ in range(count)])
            self._feed(waiting, pieces, audio)
            waiting = [s for s in waiting if s.queue]
        hidden = torch.stack([s.hidden for s in sessions if s.hidden is not None])
        return self.model.decision_log_probs(hidden)[:, 1].exp()

    def _feed(self, sessions: list[Session], pieces: list[TokenColumns], audio: list[list[Tensor]]) -> None:
        """Run the language model over new tokens and keep each session's last hidden state."""
        flat = [embedding for taken in audio for embedding in taken]
        rows, first = [], 0
        for taken in audio:
            count = len(taken) * self.layout.audio_tokens_per_chunk
            rows.append(list(range(first, first + count)))
            first += count
        embeddings = torch.cat(flat) if flat else torch.empty(0)
        batch = self.memory.prepare([s.slot for s in sessions], pieces, rows)
        hidden = self.model.hidden_states(batch, embeddings, self.memory)
        for i, (session, piece) in enumerate(zip(sessions, pieces, strict=True)):
            session.hidden = hidden[i, len(piece) - 1]

    def _decide(self, session: Session, probability: Tensor) -> tuple[Decision, float, float]:
        """Emit one control token; return the decision, P(response) and the decision's log-probability."""
        p = float(probability)
        threshold = session.sampling.threshold
        respond = session.rng.random() < p if threshold is None else p >= threshold
        session.stream.emit(self.layout.response if respond else self.layout.silent)
        if respond:
            session.reply = []
        return ("response" if respond else "silent"), p, float(np.log(max(p if respond else 1.0 - p, 1e-38)))

    def _decode(self, sessions: list[Session]) -> dict[int, list[tuple[int, float]]]:
        """Decode at most K tokens in each reply; return (token, log-probability) pairs by session id."""
        spoken: dict[int, list[tuple[int, float]]] = {s.id: [] for s in sessions}
        for _ in range(self.layout.tokens_per_chunk):
            if not sessions:
                break
            self._feed(sessions, [s.stream.flush() for s in sessions], [[] for _ in sessions])
            hidden = torch.stack([s.hidden for s in sessions if s.hidden is not None])
            log_probs = self.model.content_log_probs(hidden)
            for session, row in zip(sessions, log_probs, strict=True):
                token = self._sample(session, row)
                spoken[session.id].append((token, float(row[token])))
                self._say(session, token)
            sessions = [s for s in sessions if s.reply is not None]
        return spoken

    def _sample(self, session: Session, log_probs: Tensor) -> int:
        """Draw a reply token with the session's own generator; the longest reply is ended."""
        if session.reply is not None and len(session.reply) + 1 >= self.model.config.max_reply_tokens:
            return self.layout.end
        if session.sampling.temperature == 0:
            return int(log_probs.argmax())
        p = (log_probs.double() / session.sampling.temperature).softmax(-1).cpu().numpy()
        return int(session.rng.choice(len(p), p=p))

    def _say(self, session: Session, token: int) -> None:
        """Take a token into the reply; the end token makes the session silent again."""
        session.stream.emit(token)
        if token == self.layout.end:
            session.reply = None
        elif session.reply is not None:
            session.reply.append(token)
