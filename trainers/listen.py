"""Stream audio through the engine and print what the agent decides, chunk by chunk."""

import json
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from envs.audio import stream_chunks
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.rendering import printable
from envs.scenario import Audio
from policies.engine import Engine, Sampling, StepEvent, WallClock
from policies.engine.recording import Recording
from policies.lalm_policy import LALMPolicy
from trainers.live_audio import microphone, paced, raw_samples
from trainers.run_folder import check_out

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STDIN = "-"  # in place of a file
_LOG_CHUNKS = 25
_BAR_WIDTH = 10
_SILENCE = np.zeros(CHUNK_SAMPLES, np.float32)


class Microphone:
    """The default microphone, in place of a file."""


def listen(
    source: Path | str | Microphone,
    policy_dir: Path,
    out: TextIO,
    as_json: bool = False,
    *,
    realtime: bool = False,
    bias: float = 0.0,
    full_duplex: bool = False,
    logs: Path | None = None,
    record: Path | None = None,
) -> None:
    """Print one line a chunk: time, decision, probability of speaking, and the reply as it grows.

    When the source ends, silence follows until a reply that is being said has ended and all that was heard under it has
    been decided on. Live, lines say how long after its chunk a decision came, and a summary goes to stderr.

    Args:
        source: Any audio file: rate, channels and length are free; `STDIN` for raw samples; `Microphone()`.
        policy_dir: A policy folder.
        out: Where lines go; each is flushed.
        as_json: One JSON object a line instead of text.
        realtime: Play the file at the pace of the clock; a microphone does so anyway.
        bias: Added to the log-odds of speaking: above 0 for fewer misses, below for fewer false alarms.
        full_duplex: Listen and decide in the middle of replies too.
        logs: A folder for TensorBoard: the engine's statistics, every ten seconds of the stream.
        record: A file for what the engine was asked and how long it thought (`policies.engine.recording`).

    Raises:
        PolicyError, AudioError: when the folder or the source cannot be used.
    """
    live = realtime or isinstance(source, Microphone)
    policy = LALMPolicy.from_pretrained(
        policy_dir,
        sampling=Sampling(bias=bias),
        full_duplex=full_duplex,
        clock=WallClock() if live else None,
    )
    heard = _Source(_chunks(source))
    if record is not None:
        check_out(record.parent)
        policy.engine.recording = Recording()
    session = policy.engine.open(policy.sampling)
    steps = _live_steps if live else _steps
    reply: list[int] = []
    with ExitStack() as stack:
        writer = None if logs is None else stack.enter_context(_writer(logs))
        if record is not None and policy.engine.recording is not None:
            stack.callback(policy.engine.recording.save, record)  # a microphone ends by Ctrl-C
        if live:
            stack.callback(_summarise, policy.engine)
        for event in steps(policy.engine, session, heard, paced(heard) if realtime else heard):
            if event.error is not None:
                raise event.error
            if event.decision == "response":
                reply = []
            reply += event.token_ids
            line = _json_line(policy, event, reply, live) if as_json else _text_line(policy, event, reply)
            print(line, file=out, flush=True)
            heard.take(event)
            if writer is not None and event.chunk % _LOG_CHUNKS == 0:
                policy.engine.stats.write(writer)
        if writer is not None:
            policy.engine.stats.write(writer)


def _writer(folder: Path) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - seconds, and few want it

    return SummaryWriter(str(folder))


def _chunks(source: Path | str | Microphone) -> Iterator[Audio]:
    if isinstance(source, Microphone):
        return microphone()
    if source == STDIN:
        return raw_samples(sys.stdin.buffer)
    return stream_chunks(Path(source))


class _Source:
    """The chunks of a source, then silence for as long as anybody asks."""

    def __init__(self, chunks: Iterable[Audio]) -> None:
        self._chunks = chunks
        self._count = 0  # chunks of the source so far
        self._ended = False
        self._decided, self._speaking = -1, False

    def take(self, event: StepEvent) -> None:
        """Note what was made of the chunks."""
        self._speaking = event.decision != "silent" and not event.reply_ended
        if event.probability is not None:
            self._decided = event.chunk

    @property
    def over(self) -> bool:
        """Whether the source has ended, all of it was decided on, and no reply is being said."""
        return self._ended and not self._speaking and self._decided >= self._count - 1

    def __iter__(self) -> Iterator[Audio]:
        for chunk in self._chunks:
            self._count += 1
            yield chunk
        self._ended = True
        yield from repeat(_SILENCE)


def _steps(engine: Engine, session: int, heard: _Source, chunks: Iterable[Audio]) -> Iterator[StepEvent]:
    """Step after every chunk, as fast as they come."""
    for chunk in chunks:
        if heard.over:
            return
        engine.push(session, chunk)
        yield from engine.step()


def _live_steps(engine: Engine, session: int, heard: _Source, chunks: Iterable[Audio]) -> Iterator[StepEvent]:
    """Step as soon as a chunk is there; another thread pushes, so that a slow step makes nobody deaf."""
    news, stopped, failures = threading.Event(), threading.Event(), list[Exception]()

    def push() -> None:
        try:
            for chunk in chunks:
                if stopped.is_set() or heard.over:
                    break
                engine.push(session, chunk)
                news.set()
        except Exception as error:
            failures.append(error)
        stopped.set()
        news.set()

    pusher = threading.Thread(target=push, daemon=True)  # a microphone that is unplugged may block for ever
    pusher.start()
    try:
        while not stopped.is_set():
            news.wait()
            news.clear()
            yield from engine.step()
        yield from engine.step()  # what came last
        if failures:
            raise failures[0]
    finally:
        stopped.set()
        pusher.join(timeout=2 * CHUNK_S)  # it closes the microphone


def _summarise(engine: Engine) -> None:
    numbers = engine.stats.scalars()
    if numbers["decisions"]:
        half, most = (1e3 * numbers[f"decision_latency_{share}_s"] for share in ("p50", "p99"))
        print(
            f"{numbers['decisions']:.0f} decisions, half of them within {half:.0f} ms of their chunk, 99 % within"
            f" {most:.0f} ms; {numbers['stalls']:.0f} later than a chunk",
            file=sys.stderr,
        )


def _text(policy: LALMPolicy, event: StepEvent, reply: list[int]) -> str:
    """Return the reply so far; a character whose last bytes are still to come is left out."""
    text = policy.tokenizer.decode(reply).strip() if event.decision != "silent" else ""
    return text if event.reply_ended else text.rstrip("\ufffd")


def _json_line(policy: LALMPolicy, event: StepEvent, reply: list[int], live: bool) -> str:
    line = {
        "time_s": round(event.time_s, 3),
        "chunk": event.chunk,
        "decision": event.decision,
        "probability": event.probability,
        "text": _text(policy, event, reply),
        "reply_ended": event.reply_ended,
        "reply_cut": event.reply_cut,
    }
    if live:
        line |= {
            "decision_latency_s": event.decision_latency_s,
            "first_token_latency_s": event.first_token_latency_s,
        }
    return json.dumps(line)


def _text_line(policy: LALMPolicy, event: StepEvent, reply: list[int]) -> str:
    bar = ""
    if event.probability is not None:
        bar = f"{event.probability:.2f} {'#' * round(_BAR_WIDTH * event.probability)}"
    text = "(cut)" if event.reply_cut else printable(" ".join(_text(policy, event, reply).split()))
    return f"{event.time_s:8.1f} s  {event.decision:8s}  {bar:{_BAR_WIDTH + 5}s}  {text}".rstrip()
