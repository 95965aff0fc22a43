"""The conversation that a client sees: user audio that was committed, what was created, and replies."""

from collections import OrderedDict
from collections.abc import Callable

from policies.server.limits import Limits
from policies.server.messages import Event, ProtocolError, dump_event, field

_ROLES = ("user", "assistant", "system")
_TEXTS = ("input_text", "output_text", "text")
_CALLS = ("function_call", "function_call_output")  # of a history that a client brings along; nothing here calls any
_UNKNOWN = "the conversation has no item of this id"
_FIRST = "root"  # the protocol's `previous_item_id` of an item before all others


class Conversation:
    """Items by id, the oldest first.

    Args:
        limits: How many there are, and how long one may be.
        send: Takes server events.
        new_id: Makes an id with a prefix.
    """

    def __init__(self, limits: Limits, send: Callable[[Event], None], new_id: Callable[[str], str]) -> None:
        self.id = new_id("conv")
        self._limits, self._send, self._new_id = limits, send, new_id
        self._items: OrderedDict[str, Event] = OrderedDict()

    @property
    def last_id(self) -> str | None:
        """Id of the newest item."""
        return next(reversed(self._items), None)

    def add(self, role: str, content: list[Event], item_id: str | None = None, status: str = "completed") -> Event:
        """Add a message at the end, and say so; the oldest item makes room."""
        item: Event = {"id": item_id or self._new_id("item"), "object": "realtime.item", "type": "message"}
        return self._add(item | {"status": status, "role": role, "content": content}, self.last_id)

    def _add(self, item: Event, previous: str | None) -> Event:
        """Add an item after another; None: before all others."""
        ids = list(self._items)
        self._items[item["id"]] = item
        for later in ids[ids.index(previous) + 1 if previous is not None else 0 :]:
            self._items.move_to_end(later)
        if len(self._items) > self._limits.items:
            self._items.popitem(last=False)
        for kind in ("created", "added"):  # of the beta, of GA
            self._send({"type": f"conversation.item.{kind}", "previous_item_id": previous, "item": item | {}})
        if item["status"] == "completed":
            self.done(item)
        return item

    def done(self, item: Event) -> None:
        """Say that an item will not change any more."""
        self._send({"type": "conversation.item.done", "previous_item_id": self._before(item["id"]), "item": item})

    def create(self, event: Event) -> None:
        """Carry out `conversation.item.create`: keep a text or a call. The model hears audio, and does not read it."""
        given = field(event, "item", dict, {})
        content = field(event, "item.content", list, [])
        if given.get("type") == "message":
            if given.get("role") not in _ROLES:
                raise ProtocolError("invalid_value", f"expected one of {', '.join(_ROLES)}", "item.role")
            if not all(isinstance(part, dict) and part.get("type") in _TEXTS for part in content):
                expected = "expected texts; audio comes by input_audio_buffer"
                raise ProtocolError("invalid_value", expected, "item.content")
        elif given.get("type") not in _CALLS:
            raise ProtocolError("invalid_value", f"expected one of message, {', '.join(_CALLS)}", "item.type")
        if len(dump_event(given)) > self._limits.item_chars:
            expected = f"expected at most {self._limits.item_chars} characters of JSON"
            raise ProtocolError("item_too_long", expected, "item")
        item_id = field(event, "item.id", str) or self._new_id("item")
        if item_id in self._items:
            raise ProtocolError("item_create_duplicate_item_id", "there is an item of this id", "item.id")
        previous = field(event, "previous_item_id", str, self.last_id)
        if previous is not None and previous != _FIRST and previous not in self._items:
            raise ProtocolError("item_create_invalid_previous_item_id", _UNKNOWN, "previous_item_id")
        item = given | {"id": item_id, "object": "realtime.item", "status": "completed"}
        self._add(
            item | ({"content": content} if given["type"] == "message" else {}),
            None if previous == _FIRST else previous,
        )

    def retrieve(self, event: Event) -> None:
        """Carry out `conversation.item.retrieve`."""
        self._send({"type": "conversation.item.retrieved", "item": self._find(event, "retrieve")})

    def delete(self, event: Event) -> None:
        """Carry out `conversation.item.delete`. What the model has heard stays heard."""
        item_id = self._find(event, "delete")["id"]
        del self._items[item_id]
        self._send({"type": "conversation.item.deleted", "item_id": item_id})

    def truncate(self, event: Event) -> None:
        """Carry out `conversation.item.truncate`: of a spoken reply no more than that was heard.

        Its transcript goes, as with OpenAI: nobody knows which words of it were heard.
        """
        item = self._find(event, "truncate")
        end, index = field(event, "audio_end_ms", int, -1), field(event, "content_index", int, 0)
        if end < 0:
            raise ProtocolError("invalid_value", "expected milliseconds from 0 on", "audio_end_ms")
        for part in item["content"] if item["type"] == "message" else ():  # a call may bring along any
            if part["type"] == "output_audio":
                part["transcript"] = None
        about = {"item_id": item["id"], "content_index": index, "audio_end_ms": end}
        self._send({"type": "conversation.item.truncated", **about})

    def _find(self, event: Event, verb: str) -> Event:
        item_id = field(event, "item_id", str)
        if item_id not in self._items:
            raise ProtocolError(f"item_{verb}_invalid_item_id", _UNKNOWN, "item_id")
        return self._items[item_id]

    def _before(self, item_id: str) -> str | None:
        ids = list(self._items)
        place = ids.index(item_id) if item_id in ids else 0
        return ids[place - 1] if place else None
