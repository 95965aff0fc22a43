"""Asking a language model over any OpenAI-compatible endpoint; every failure is one line with its remedy."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from envs.errors import PlanningError

Message = dict[str, str]
_LONGEST_QUOTE = 160
_HTTP_UNAUTHORIZED = (401, 403)
_HTTP_BUSY = 429


class UnsteadyError(PlanningError):
    """A failure that may be over at the next try: the endpoint is busy, or its answer was cut off."""


@dataclass(frozen=True)
class ChatEndpoint:
    """One model behind `{base_url}/chat/completions`.

    Attributes:
        base_url: Such as "http://127.0.0.1:8000/v1".
        model: As the endpoint calls it.
        api_key_env: The environment variable that holds the API key; unset: none is sent. It is never logged.
        timeout_s: Seconds to wait for an answer.

    Raises:
        PlanningError: when the base URL is none, or holds a password.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            usable = False
        if "@" in self.base_url:  # not quoted: a message may end up in a log
            raise PlanningError(f"the base URL holds a user name or password; put the key into {self.api_key_env}")
        if not usable or not self.base_url.isascii() or not self.base_url.isprintable() or " " in self.base_url:
            raise PlanningError(f"the base URL is {self.base_url!r}, expected one such as 'http://127.0.0.1:8000/v1'")

    def complete(self, messages: list[Message], temperature: float, seed: int) -> str:
        """Return the model's answer to a conversation, which is asked to be one JSON object.

        Raises:
            UnsteadyError: when another try may help.
            PlanningError: when it will not: nobody listens, the key is refused, the request is not understood.
        """
        import httpx2  # noqa: PLC0415 - `import envs` stays light

        request = {
            "model": self.model,
            "messages": messages,
            "temperature": temperature,
            "seed": seed,
            "response_format": {"type": "json_object"},
        }
        try:
            response = httpx2.post(
                f"{self.base_url.rstrip('/')}/chat/completions",
                json=request,
                headers=self._headers(),
                timeout=self.timeout_s,
            )
        except httpx2.TimeoutException as error:
            raise UnsteadyError(
                f"{self.base_url}: no answer within {self.timeout_s:g} s; is the model loaded? A smaller one is faster",
                "timeout",
            ) from error
        except (httpx2.ConnectError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise PlanningError(
                f"{self.base_url}: cannot be reached ({error}); start the endpoint, or correct the base URL",
                "unreachable",
            ) from error
        except httpx2.HTTPError as error:  # the connection broke
            raise UnsteadyError(f"{self.base_url}: the connection broke ({error}); try again", "broken off") from error
        if not response.is_success:
            raise self._refusal(response.status_code, response.text)
        try:
            return _content(response.json())
        except (ValueError, RecursionError) as error:
            raise UnsteadyError("the endpoint's answer is not JSON", "no completion") from error

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key.isascii() or not key.isprintable():  # the HTTP library would quote it
            raise PlanningError(f"{self.api_key_env} holds characters that no API key has; set it anew")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _refusal(self, status: int, body: str) -> PlanningError:
        where, kind = f"{self.base_url}: HTTP {status}", f"HTTP {status}"
        if status in _HTTP_UNAUTHORIZED:  # the body is not quoted: it may hold a part of the key
            return PlanningError(f"{where}, the API key is missing or refused; set {self.api_key_env}", kind)
        if status == _HTTP_BUSY or status >= 500:
            return UnsteadyError(f"{where}, the endpoint is busy or broken; try again later", kind)
        key = os.environ.get(self.api_key_env, "").strip()
        said = " ".join((body.replace(key, "***") if key else body).split())[:_LONGEST_QUOTE]
        return PlanningError(
            f"{where} for the model {self.model!r}; check base URL and model: {said or 'no word'}", kind
        )


def _content(data: Any) -> str:
    """Return the text of the first choice."""
    try:
        content = data["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise UnsteadyError("the endpoint's answer holds no choices[0].message.content", "no completion") from error
    if not isinstance(content, str):
        raise UnsteadyError("choices[0].message.content is no text", "no completion")
    return content.encode(errors="replace").decode()  # half a character cannot be sent back, or printed
