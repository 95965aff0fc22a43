"""How an environment turns token ids into text. It needs no model: the default is UTF-8 bytes."""

from collections.abc import Sequence
from typing import Protocol


class TextTokenizer(Protocol):
    """What an environment needs of a tokenizer. Ids are in [0, vocab_size); `vocab_size` itself is padding."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, the end token included."""

    @property
    def end_id(self) -> int:
        """The id that ends a reply."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without the end token."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; the end token and unknown ids give no text."""


class ByteTokenizer:
    """UTF-8 bytes as ids 0..255 and 256 as the end token.

    >>> ByteTokenizer().decode(ByteTokenizer().encode("I hear rain."))
    'I hear rain.'
    """

    vocab_size = 257
    end_id = 256

    def encode(self, text: str) -> list[int]:
        """Return the UTF-8 bytes of `text`."""
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; bytes that are no UTF-8 become U+FFFD."""
        return bytes(i for i in ids if 0 <= i < 256).decode(errors="replace")
