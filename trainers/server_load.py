"""Clients that send sound as a browser does, and note what came back and when; `run_load` fills a process with them.

Nothing here imports torch: such a process is there in a second, and shares no interpreter with the server.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from policies.server.limits import Close
from policies.server.messages import Event
from policies.server.resampling import INPUT_CHUNK, PROTOCOL_RATE

_QUIET, _LOUD = 0.0005, 0.1  # of full scale, RMS: to both sides of what `server_vad` takes for speech
_SHORTEST_S, _LONGEST_S = 0.02, 0.1  # of a frame: what an AudioWorklet gathers before it hands on
_LOOP_S = 12.0  # of sound that a session sends again and again; somebody speaks in a quarter of it
_STAGGER_S = 4.0  # in which sessions begin, one after another
_PATIENCE_S = 30.0  # after which a client gives the server up
_NOTHING_LEFT = "input_audio_buffer_commit_empty"  # of the last commit, where the server found the turn over already
SERVER_VAD = {"turn_detection": {"type": "server_vad"}}  # part of a session's settings

Pcm = NDArray[np.int16]


class Frame(NamedTuple):
    """One client event, and how many samples it brings."""

    message: str
    samples: int


class Decided(NamedTuple):
    """One `response.listen` or `response.speak`.

    Attributes:
        latency_ms: From the moment at which the chunk's last sample was sent to this event, on the client's clock;
            None: it is of silence that the server put in, or of sound after that, whose chunks the client cannot tell.
        server_ms: The event's own `decision_latency_ms`.
    """

    chunk: int
    kind: str
    probability: float | None
    latency_ms: float | None
    server_ms: float | None


@dataclass
class Heard:
    """What one connection brought.

    Attributes:
        chunks_sent: Chunks whose last sample was sent.
        lag_ms: By how much each frame was sent later than a microphone would have had it.
        decided: In the order in which they came.
        texts: Of the replies that ended.
        errors: Codes of `error` events, and why the client could not go on.
        close: The code with which the server closed; None: it did not.
    """

    chunks_sent: int = 0
    lag_ms: list[float] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    close: int | None = None

    @property
    def troubles(self) -> list[str]:
        """What should not have happened; that a session has a longest life is no trouble."""
        if self.close == Close.LIFETIME:
            return [code for code in self.errors if code != "session_expired"]
        return self.errors + ([] if self.close is None else [f"closed with {self.close}"])


def make_sound(seconds: float, seed: int) -> Pcm:
    """Return noise int16 [24,000 * seconds], as loud as speech in its first quarter."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(PROTOCOL_RATE * seconds))
    place = np.arange(len(noise)) / len(noise)
    level = np.where(place < 0.25, _LOUD * (0.2 + np.sin(np.pi * place / 0.25)), _QUIET)
    return (32767 * (level * noise).clip(-1, 1)).astype("<i2")


def cut_into_frames(sound: Pcm, seed: int) -> list[Frame]:
    """Return `input_audio_buffer.append` events of 20 to 100 ms that bring the sound."""
    rng = np.random.default_rng(seed)
    frames, at = [], 0
    while at < len(sound):
        piece = sound[
            at : at + int(rng.integers(int(_SHORTEST_S * PROTOCOL_RATE), int(_LONGEST_S * PROTOCOL_RATE) + 1))
        ]
        frames.append(Frame(event_text("input_audio_buffer.append", audio=encode_pcm(piece)), len(piece)))
        at += len(piece)
    return frames


def encode_pcm(sound: Pcm) -> str:
    """Return samples as the protocol writes them."""
    return base64.b64encode(sound.tobytes()).decode()


def event_text(kind: str, **fields: Any) -> str:
    """Return a client event as JSON."""
    return json.dumps({"type": kind, **fields})


def connected(address: str, **options: Any) -> connect:
    """Return a connection to a server at `http://HOST:PORT`, to be entered."""
    url = f"{address.replace('http', 'ws', 1)}/v1/realtime?model=bench"
    options |= {"proxy": None, "compression": None, "max_size": None, "ping_interval": None}  # browsers do not ping
    return connect(url, open_timeout=_PATIENCE_S, **options)


class LiveClient:
    """One connection: `play` sends, `read` takes in all that comes.

    Args:
        socket: Connected.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.heard = Heard()
        self._sent_s: list[float] = []  # when the last sample of each chunk was sent
        self._padded = False  # the server put silence in: its chunks are not those of the client any more
        self._over = False  # all was sent
        self._replies = 0  # that have begun and not ended
        self._cleared = False
        self._news = asyncio.Event()

    async def play(self, frames: Sequence[Frame], seconds: float | None, settings: Mapping[str, Any]) -> None:
        """Send frames again and again at the pace of a microphone for so long, or once, at once, where that is None."""
        await self._socket.send(event_text("session.update", session=settings))
        begin, samples = time.monotonic(), 0
        for message, count in frames if seconds is None else cycle(frames):
            samples += count
            if seconds is not None:
                due = begin + samples / PROTOCOL_RATE
                if due > begin + seconds + 1e-9:
                    break
                await asyncio.sleep(max(due - time.monotonic(), 0))
                self.heard.lag_ms.append(1e3 * (time.monotonic() - due))
            ended = samples // INPUT_CHUNK - len(self._sent_s)
            self._sent_s += [time.monotonic()] * ended
            self.heard.chunks_sent += ended
            await self._socket.send(message)

    async def finish(self) -> None:
        """Wait until all that was sent is decided on, and a reply has ended."""
        await self._until(lambda: self._padded or len(self.heard.decided) >= self.heard.chunks_sent)
        self._over = True
        await self._socket.send(event_text("input_audio_buffer.commit"))  # a reply goes on at once
        await self._socket.send(event_text("input_audio_buffer.clear"))  # its answer comes after all that was before
        await self._until(lambda: self._cleared and not self._replies)

    async def leave(self) -> None:
        """Say goodbye."""
        self._over = True
        await self._socket.close()

    async def read(self) -> None:
        """Take in events until the connection is closed."""
        try:
            while True:
                message = await self._socket.recv()
                self._take(json.loads(message), time.monotonic())
                self._news.set()
        except ConnectionClosed as end:
            if end.rcvd is None or end.rcvd_then_sent:  # it was not us
                self.heard.close = 1006 if end.rcvd is None else end.rcvd.code

    def _take(self, event: Event, now: float) -> None:
        kind = event["type"]
        if kind in ("response.listen", "response.speak"):
            self._take_decision(event, now)
        elif kind == "response.created":
            self._replies += 1
        elif kind == "response.done":
            self._replies -= 1
            self.heard.texts += [part["text"] for item in event["response"]["output"] for part in item["content"]]
        elif kind == "input_audio_buffer.cleared":
            self._cleared = True
        elif kind == "error" and not (self._over and event["error"]["code"] == _NOTHING_LEFT):
            self.heard.errors.append(event["error"]["code"])

    def _take_decision(self, event: Event, now: float) -> None:
        chunk = event["chunk_index"]
        if chunk >= len(self._sent_s):
            if self._over:
                return  # of the silence in which a last reply went on
            self._padded = True
        latency = None if self._padded else 1e3 * (now - self._sent_s[chunk])
        decided = Decided(chunk, event["type"], event["probability"], latency, event["decision_latency_ms"])
        self.heard.decided.append(decided)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()


async def call(
    address: str, frames: Sequence[Frame], seconds: float | None, settings: Mapping[str, Any] | None = None
) -> Heard:
    """Connect, play, wait for the last decision and leave.

    Args:
        address: Of the server.
        frames: As `LiveClient.play`.
        seconds: As `LiveClient.play`.
        settings: Of the session.
    """
    try:
        async with connected(address) as socket:
            client = LiveClient(socket)
            reader = asyncio.create_task(client.read())
            talk = asyncio.create_task(_talk(client, frames, seconds, settings or {}))
            done, _ = await asyncio.wait({reader, talk}, return_when=asyncio.FIRST_COMPLETED)
            if talk not in done:  # the server has closed
                talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
            await client.leave()
            await reader
            if not talk.cancelled() and isinstance(talk.exception(), TimeoutError):
                client.heard.errors.append(f"no decision within {_PATIENCE_S:.0f} s")
            return client.heard
    except (OSError, WebSocketException) as error:
        return Heard(errors=[f"not connected: {error}"])


async def _talk(
    client: LiveClient, frames: Sequence[Frame], seconds: float | None, settings: Mapping[str, Any]
) -> None:
    await client.play(frames, seconds, settings)
    async with asyncio.timeout(_PATIENCE_S):
        await client.finish()


@dataclass(frozen=True)
class Load:
    """Sessions at once.

    Attributes:
        sessions: How many.
        seconds: How long each sends sound.
        settings: Of each session; every other one gives the turns to the server, which replies after each.
        refusals: So many more try to get in meanwhile, one at a time.
        turnover_s: Half of the sessions leave after so long, and comes again; None: all stay.
    """

    sessions: int
    seconds: float
    settings: dict[str, Any]
    refusals: int = 0
    turnover_s: float | None = None


@dataclass(frozen=True)
class LoadResult:
    """What a load brought.

    Attributes:
        heard: By every connection.
        refusal_ms: From the attempt to connect to the error `session_limit_reached`, of each that was one too many.
        let_in: Attempts that were not refused so.
        cpu_s: Seconds of CPU that the clients took.
        seconds: From the first sample to the last event.
    """

    heard: list[Heard]
    refusal_ms: list[float]
    let_in: int
    cpu_s: float
    seconds: float


def run_load(address: str, load: Load) -> LoadResult:
    """Put a load on a server, and wait until it is over."""
    sound = make_sound(_LOOP_S, 0)
    frames = [cut_into_frames(np.roll(sound, i * len(sound) // load.sessions), i) for i in range(load.sessions)]
    return asyncio.run(_load(address, load, frames))


async def _load(address: str, load: Load, frames: Sequence[Sequence[Frame]]) -> LoadResult:
    begin, cpu = time.monotonic(), time.process_time()
    stagger = min(_STAGGER_S, load.seconds / 4)
    attempts = asyncio.create_task(_attempts(address, load, stagger))
    live = [_session(address, load, i, frames[i], stagger * i / load.sessions) for i in range(load.sessions)]
    heard = [one for session in await asyncio.gather(*live) for one in session]
    found = await attempts
    refused = [ms for ms in found if ms is not None]
    return LoadResult(heard, refused, len(found) - len(refused), time.process_time() - cpu, time.monotonic() - begin)


async def _session(address: str, load: Load, number: int, frames: Sequence[Frame], wait_s: float) -> list[Heard]:
    """Be one session, over as many connections as that takes."""
    await asyncio.sleep(wait_s)
    end = time.monotonic() + load.seconds
    leaves = load.turnover_s is not None and number % 4 in (1, 2)
    heard: list[Heard] = []
    while (left := end - time.monotonic()) > _LONGEST_S and not (heard and heard[-1].troubles):
        stay = min(left, load.turnover_s) if leaves and load.turnover_s is not None else left
        heard.append(await call(address, frames, stay, load.settings | (SERVER_VAD if number % 2 else {})))
    return heard


async def _attempts(address: str, load: Load, stagger_s: float) -> list[float | None]:
    """Try to get in while all sessions are there."""
    found = []
    every = (load.seconds - stagger_s) / (load.refusals + 1)
    await asyncio.sleep(stagger_s)
    for _ in range(load.refusals):
        await asyncio.sleep(every)
        found.append(await refusal(address))
    return found


async def refusal(address: str) -> float | None:
    """Try to get in; return after how many milliseconds it was said that all slots are taken, or None."""
    begin = time.monotonic()
    try:
        async with connected(address) as socket:
            event = json.loads(await socket.recv())
            ms = 1e3 * (time.monotonic() - begin)
            return ms if event.get("error", {}).get("code") == "session_limit_reached" else None
    except (OSError, WebSocketException):
        return None
