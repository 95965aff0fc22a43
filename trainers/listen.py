"""Stream an audio file through the engine and print what the agent decides, chunk by chunk."""

import json
from pathlib import Path
from typing import TextIO

from envs.audio import stream_chunks
from policies.lalm_policy import LALMPolicy, load_policy
from policies.session import StepEvent


def listen(path: Path, policy_dir: Path, out: TextIO, as_json: bool = False) -> None:
    """Print one line a chunk: time, decision, probability of speaking, and the reply as it grows.

    Args:
        path: Any audio file: rate, channels and length are free.
        policy_dir: A policy folder.
        out: Where lines go; each is flushed.
        as_json: One JSON object a line instead of text.

    Raises:
        PolicyError, AudioError: when the folder or the file cannot be used.
    """
    policy = load_policy(policy_dir)
    session = policy.engine.open()
    reply: list[int] = []
    for chunk in stream_chunks(path):
        policy.engine.push(session, chunk)
        for event in policy.engine.step():
            if event.decision == "response":
                reply = []
            reply += event.token_ids
            line = _json_line(policy, event, reply) if as_json else _text_line(policy, event, reply)
            print(line, file=out, flush=True)


def _text(policy: LALMPolicy, event: StepEvent, reply: list[int]) -> str:
    return policy.tokenizer.decode(reply) if event.decision != "silent" else ""


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
    probability = "      " if event.probability is None else f"{event.probability:6.3f}"
    bar = "#" * round(10 * (event.probability or 0.0))
    return f"{event.time_s:8.1f} s  {event.decision:8s} {probability} {bar:10s} {_text(policy, event, reply)}".rstrip()
