"""The conversation that a client sees: user audio that was committed, what was created, and replies."""

from collections import OrderedDict
from collections.abc import Callable

from policies.server.limits import Limits
from policies.server.messages import Event, ProtocolError, dump_event, field

_ROLES = ("user", "assistant", "system")


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
        """Add an item at the end, and say so; the oldest makes room."""
        item: Event = {"id": item_id or self._new_id("item"), "object": "realtime.item", "type": "message"}
        item |= {"status": status, "role": role, "content": content}
        previous = self.last_id
        self._items[item["id"]] = item
        if len(self._items) > self._limits.items:
            self._items.popitem(last=False)
        for kind in ("created", "added"):  # of the beta, of GA
            self._send({"type": f"conversation.item.{kind}", "previous_item_id": previous, "item": item | {}})
        if status == "completed":
            self.done(item)
        return item

    def done(self, item: Event) -> None:
        """Say that an item will not change any more."""
        self._send({"type": "conversation.item.done", "previous_item_id": self._before(item["id"]), "item": item})

    def create(self, event: Event) -> None:
        """Carry out `conversation.item.create`: keep a text. The model hears audio, and does not read it."""
        given = field(event, "item", dict, {})
        if given.get("type") != "message":
            raise ProtocolError("invalid_value", "expected 'message'", "item.type")
        if given.get("role") not in _ROLES:
            raise ProtocolError("invalid_value", f"expected one of {', '.join(_ROLES)}", "item.role")
        item_id, content = field(event, "item.id", str), field(event, "item.content", list, [])
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("input_text", "output_text", "text"):
                raise ProtocolError(
                    "invalid_value", "expected texts; audio comes by input_audio_buffer", "item.content"
                )
        if len(dump_event(given)) > self._limits.item_chars:
            expected = f"expected at most {self._limits.item_chars} characters of JSON"
            raise ProtocolError("item_too_long", expected, "item")
        if item_id is not None and item_id in self._items:
            raise ProtocolError("item_already_exists", "there is an item of this id", "item.id")
        self.add(given["role"], content, item_id)

    def retrieve(self, event: Event) -> None:
        """Carry out `conversation.item.retrieve`."""
        self._send({"type": "conversation.item.retrieved", "item": self._find(event)})

    def delete(self, event: Event) -> None:
        """Carry out `conversation.item.delete`. What the model has heard stays heard."""
        item_id = self._find(event)["id"]
        del self._items[item_id]
        self._send({"type": "conversation.item.deleted", "item_id": item_id})

    def _find(self, event: Event) -> Event:
        item_id = field(event, "item_id", str)
        if item_id not in self._items:
            raise ProtocolError("item_not_found", "the conversation has no item of this id", "item_id")
        return self._items[item_id]

    def _before(self, item_id: str) -> str | None:
        ids = list(self._items)
        place = ids.index(item_id) if item_id in ids else 0
        return ids[place - 1] if place else None
