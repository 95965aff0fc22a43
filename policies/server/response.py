"""One reply on its way to a client: the `response.*` events, in their order."""

from collections.abc import Callable, Sequence
from typing import Literal

from policies.server.conversation import Conversation
from policies.server.messages import Event, ProtocolError, field
from policies.tokenizer import ReplyTokenizer

_MOST_METADATA, _KEY_CHARS, _VALUE_CHARS = 16, 64, 512
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


class Response:
    """A reply, from `response.created` to `response.done`.

    Args:
        conversation: Takes its item.
        tokenizer: Of the policy.
        send: Takes server events.
        new_id: Makes an id with a prefix.
        metadata: Of the client, echoed.
    """

    def __init__(
        self,
        conversation: Conversation,
        tokenizer: ReplyTokenizer,
        send: Callable[[Event], None],
        new_id: Callable[[str], str],
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.id = new_id("resp")
        self.begun = False  # the engine has opened it
        self._conversation, self._tokenizer, self._send, self._new_id = conversation, tokenizer, send, new_id
        self._metadata, self._text = metadata, ""
        self._item: Event | None = None
        self._tokens: list[int] = []
        self._send({"type": "response.created", "response": self._json("in_progress")})

    def begin(self) -> None:
        """Open its item."""
        self.begun = True
        item_id = self._new_id("item")
        empty: Event = {"id": item_id, "object": "realtime.item", "type": "message", "status": "in_progress"}
        empty |= {"role": "assistant", "content": []}
        self._send({"type": "response.output_item.added", **self._place(), "item": empty})
        self._item = self._conversation.add("assistant", [], item_id, "in_progress")
        self._send({"type": "response.content_part.added", **self._place(item_id), "part": self._part()})

    def write(self, tokens: Sequence[int], ended: bool) -> None:
        """Go on with tokens of the engine; a character whose last bytes are still to come waits."""
        self._tokens += tokens
        text = self._tokenizer.decode(self._tokens).strip()
        text = text if ended else text.rstrip("\ufffd")
        delta = text[len(self._text) :]
        if delta and self._item is not None:
            self._text += delta
            self._send({"type": "response.output_text.delta", **self._place(self._item["id"]), "delta": delta})

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Say that it is over, and why."""
        if self._item is not None:
            item_id = self._item["id"]
            self._send({"type": "response.output_text.done", **self._place(item_id), "text": self._text})
            self._send({"type": "response.content_part.done", **self._place(item_id), "part": self._part()})
            self._item["content"] = [self._part()]
            self._item["status"] = "completed" if status == "completed" else "incomplete"
            self._send({"type": "response.output_item.done", **self._place(), "item": self._item})
            self._conversation.done(self._item)
        self._send({"type": "response.done", "response": self._json(status, reason)})

    def _place(self, item_id: str | None = None) -> Event:
        place: Event = {"response_id": self.id, "output_index": 0}
        return place if item_id is None else place | {"item_id": item_id, "content_index": 0}

    def _part(self) -> Event:
        return {"type": "output_text", "text": self._text}

    def _json(self, status: str, reason: str | None = None) -> Event:
        details = None if status in ("in_progress", "completed") else {"type": status, "reason": reason}
        count = len(self._tokens)
        usage = {"total_tokens": count, "input_tokens": 0, "output_tokens": count}
        return {
            "object": "realtime.response",
            "id": self.id,
            "conversation_id": self._conversation.id,
            "status": status,
            "status_details": details,
            "output": [] if self._item is None else [self._item],
            "output_modalities": ["text"],
            "max_output_tokens": "inf",
            "metadata": self._metadata,
            "usage": None if status == "in_progress" else usage,
        }
