"""Stream an audio file through the engine and print what the agent decides, chunk by chunk."""

import json
from pathlib import Path
from typing import TextIO

import numpy as np

from envs.audio import stream_chunks
from envs.clock import CHUNK_SAMPLES
from policies.engine import StepEvent
from policies.lalm_policy import LALMPolicy

_BAR_WIDTH = 10
_SILENCE = np.zeros(CHUNK_SAMPLES, np.float32)


def listen(path: Path, policy_dir: Path, out: TextIO, as_json: bool = False) -> None:
    """Print one line a chunk: time, decision, probability of speaking, and the reply as it grows.

    When the file ends, silence follows until a reply that is being said has ended and all that was heard under it has
    been decided on.

    Args:
        path: Any audio file: rate, channels and length are free.
        policy_dir: A policy folder.
        out: Where lines go; each is flushed.
        as_json: One JSON object a line instead of text.

    Raises:
        PolicyError, AudioError: when the folder or the file cannot be used.
    """
    policy, chunks = LALMPolicy.from_pretrained(policy_dir), stream_chunks(path)
    session = policy.engine.open()
    reply: list[int] = []
    speaking, heard = False, policy.engine.sessions[session]
    last = -1  # chunk of the file
    while True:
        chunk = next(chunks, None)
        if chunk is not None:
            last += 1
        elif not speaking and heard.stream.last_chunk >= last:
            return
        policy.engine.push(session, _SILENCE if chunk is None else chunk)
        for event in policy.engine.step():
            if event.decision == "response":
                reply = []
            reply += event.token_ids
            speaking = event.decision != "silent" and not event.reply_ended
            line = _json_line(policy, event, reply) if as_json else _text_line(policy, event, reply)
            print(line, file=out, flush=True)


def _text(policy: LALMPolicy, event: StepEvent, reply: list[int]) -> str:
    """Return the reply so far; a character whose last bytes are still to come is left out."""
    text = policy.tokenizer.decode(reply).strip() if event.decision != "silent" else ""
    return text if event.reply_ended else text.rstrip("\ufffd")


def _printable(text: str) -> str:
    """Return a text in one line without what would steer a terminal; a model may write anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def _json_line(policy: LALMPolicy, event: StepEvent, reply: list[int]) -> str:
    return json.dumps(
        {
            "time_s": round(event.time_s, 3),
            "chunk": event.chunk,
            "decision": event.decision,
            "probability": event.probability,
            "text": _text(policy, event, reply),
            "reply_ended": event.reply_ended,
        }
    )


def _text_line(policy: LALMPolicy, event: StepEvent, reply: list[int]) -> str:
    bar = ""
    if event.probability is not None:
        bar = f"{event.probability:.2f} {'#' * round(_BAR_WIDTH * event.probability)}"
    text = _printable(_text(policy, event, reply))
    return f"{event.time_s:8.1f} s  {event.decision:8s}  {bar:{_BAR_WIDTH + 5}s}  {text}".rstrip()
