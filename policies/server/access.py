"""Who may connect: a key, compared in constant time, and the pages of which origins."""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from envs.errors import ServerError

SUBPROTOCOL = "realtime"
_KEY_SUBPROTOCOL = "openai-insecure-api-key."  # browsers cannot set headers
_BEARER = "bearer "
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+")  # as browsers send it; `null` is every page that has none


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Access:
    """Who may connect.

    Attributes:
        key: That a client has to know; None: it needs none.
        origins: Pages that may connect; a client that is no browser names no origin, and is not asked for one.
    """

    key: str | None = field(repr=False)
    origins: frozenset[str]

    @classmethod
    def to(cls, host: str, port: int, key: str | None, key_variable: str, allowed: Sequence[str]) -> "Access":
        """Return who may connect to an address.

        Raises:
            ServerError: when others than this machine reach it, and there is no key; or when one that is allowed is no
                origin.
        """
        if key is None and not is_loopback(host):
            raise ServerError(
                f"--host {host} can be reached from other machines, and the variable {key_variable} holds no key;"
                f" set it, or bind 127.0.0.1"
            )
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ServerError(f"the variable {key_variable} holds no key: expected printable ASCII without spaces")
        origins = {origin.rstrip("/").lower() for origin in allowed}
        for origin in sorted(origins):
            if not _ORIGIN.fullmatch(origin):
                raise ServerError(f"--allow-origin {origin} is no origin; expected one like https://sound.example.org")
        own = {host, "127.0.0.1", "localhost"} if is_loopback(host) else {host}
        here = {f"http://{f'[{name}]' if ':' in name else name}:{port}" for name in own}
        return cls(key, frozenset(here | origins))

    def allows_origin(self, origin: str | None) -> bool:
        """Return whether a page of that origin may connect; None: it is no browser."""
        return origin is None or origin in self.origins

    def allows_key(self, headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> bool:
        """Return whether a request brings the key, as a bearer token or as a subprotocol."""
        if self.key is None:
            return True
        given = [s.removeprefix(_KEY_SUBPROTOCOL) for s in subprotocols if s.startswith(_KEY_SUBPROTOCOL)]
        authorization = headers.get("authorization", "")
        if authorization.lower().startswith(_BEARER):
            given.append(authorization[len(_BEARER) :].strip())
        return any(hmac.compare_digest(g.encode("utf-8", "surrogateescape"), self.key.encode()) for g in given)
