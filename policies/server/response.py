"""One reply on its way to a client: the `response.*` events, in their order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from policies.server.conversation import Conversation
from policies.server.messages import Event, ProtocolError, field
from policies.tokenizer import ReplyTokenizer

_MOST_METADATA, _KEY_CHARS, _VALUE_CHARS = 16, 64, 512
Modality = Literal["text", "audio"]
Status = Literal["completed", "cancelled", "failed"]


def parse_metadata(event: Event) -> dict[str, str] | None:
    """Return `response.metadata` of a `response.create`.

    Raises:
        ProtocolError: `invalid_value` when it is more than 16 short strings by short names.
    """
    metadata = field(event, "response.metadata", dict)
    fits = metadata is None or (
        len(metadata) <= _MOST_METADATA
        and all(len(k) <= _KEY_CHARS and isinstance(v, str) and len(v) <= _VALUE_CHARS for k, v in metadata.items())
    )
    if not fits:
        expected = f"expected at most {_MOST_METADATA} strings of {_VALUE_CHARS} characters, by names of {_KEY_CHARS}"
        raise ProtocolError("invalid_value", expected, "response.metadata")
    return metadata


def parse_modality(holder: Event, path: str, default: Modality) -> Modality:
    """Return the form of replies that a session or a `response.create` asks for, by the names of GA and of beta.

    Raises:
        ProtocolError: `invalid_value` when it is no list of "text" and "audio".
    """
    for name in ("modalities", "output_modalities"):
        wanted = field({path: holder}, f"{path}.{name}", list)
        if wanted is not None:
            if not wanted or any(one not in ("text", "audio") for one in wanted):
                raise ProtocolError("invalid_value", "expected ['text'] or ['audio']", f"{path}.{name}")
            default = "audio" if "audio" in wanted else "text"  # a spoken reply has its text beside it
    return default


@dataclass(frozen=True)
class Outlet:
    """What every reply of a session needs.

    Attributes:
        conversation: Takes its item.
        tokenizer: Of the policy.
        send: Takes server events.
        new_id: Makes an id with a prefix.
        completed: Is called with a reply when all of it was sent.
        failed: Is called with one that cannot go on, and with a code.
    """

    conversation: Conversation
    tokenizer: ReplyTokenizer
    send: Callable[[Event], None]
    new_id: Callable[[str], str]
    completed: Callable[["Response"], None]
    failed: Callable[["Response", str], None]


class Response:
    """A reply as text, from `response.created` to `response.done`.

    Args:
        outlet: Of the session.
        max_output_tokens: Of its session.
        metadata: Of the client, echoed.
    """

    modality: Modality = "text"

    def __init__(self, outlet: Outlet, max_output_tokens: int | str, metadata: dict[str, str] | None = None) -> None:
        self.id = outlet.new_id("resp")
        self.begun = False  # the engine has opened it
        self.written = False  # the engine has ended it
        self._out, self._max_output_tokens, self._metadata = outlet, max_output_tokens, metadata
        self._text = ""  # that was decoded
        self._item: Event | None = None
        self._tokens: list[int] = []
        self._send("created", {}, response=self._json("in_progress"))

    def begin(self) -> None:
        """Open its item."""
        self.begun = True
        item_id = self._out.new_id("item")
        empty: Event = {"id": item_id, "object": "realtime.item", "type": "message", "status": "in_progress"}
        empty |= {"role": "assistant", "content": []}
        self._send("output_item.added", self._place(), item=empty)
        self._item = self._out.conversation.add("assistant", [], item_id, "in_progress")
        self._send("content_part.added", self._content_place(), part=self._part())

    def write(self, tokens: Sequence[int], ended: bool) -> None:
        """Go on with tokens of the engine; a character whose last bytes are still to come waits."""
        self._tokens += tokens
        text = self._out.tokenizer.decode(self._tokens).strip()
        text = text if ended else text.rstrip("\ufffd")
        delta = text[len(self._text) :]
        self._text += delta
        self.written = ended
        self._say(delta)

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Say that it is over, and why."""
        if self._item is not None:
            self._close_part()
            self._send("content_part.done", self._content_place(), part=self._part())
            part = self._part()
            self._item["content"] = [part | {"type": f"output_{part['type']}"}]
            self._item["status"] = "completed" if status == "completed" else "incomplete"
            self._send("output_item.done", self._place(), item=self._item)
            self._out.conversation.done(self._item)
        self._send("done", {}, response=self._json(status, reason))

    def _say(self, delta: str) -> None:
        """Send what was written; at the end say that it is all."""
        if delta and self._item is not None:
            self._send("output_text.delta", self._content_place(), delta=delta)
        if self.written:
            self._out.completed(self)

    def _close_part(self) -> None:
        self._send("output_text.done", self._content_place(), text=self._text)

    def _part(self) -> Event:
        """Return its content in the names of content parts; an item puts `output_` before the type."""
        return {"type": "text", "text": self._text}

    def _send(self, kind: str, place: Event, **fields: Any) -> None:
        self._out.send({"type": f"response.{kind}", **place, **fields})

    def _place(self) -> Event:
        return {"response_id": self.id, "output_index": 0}

    def _content_place(self) -> Event:
        assert self._item is not None  # no content before its item
        return self._place() | {"item_id": self._item["id"], "content_index": 0}

    def _json(self, status: str, reason: str | None = None) -> Event:
        details: Event | None = None
        if status == "cancelled":
            details = {"type": status, "reason": reason}
        elif status == "failed":
            details = {"type": status, "error": {"type": "server_error", "code": reason, "message": reason}}
        count = len(self._tokens)
        usage = {"total_tokens": count, "input_tokens": 0, "output_tokens": count}
        return {
            "object": "realtime.response",
            "id": self.id,
            "conversation_id": self._out.conversation.id,
            "status": status,
            "status_details": details,
            "output": [] if self._item is None else [self._item],
            "output_modalities": [self.modality],
            "max_output_tokens": self._max_output_tokens,
            "metadata": self._metadata,
            "usage": None if status == "in_progress" else usage,
        }
