"""Asking a language model over any OpenAI-compatible endpoint; every failure is one line with its remedy."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from envs.errors import AnswerError

T = TypeVar("T")
Message = dict[str, str]
_LONGEST_QUOTE = 160
_HTTP_UNAUTHORIZED = (401, 403)
_HTTP_BUSY = 429


class UnsteadyError(AnswerError):
    """A failure that may be over at the next try: the endpoint is busy, or its answer was cut off."""


class NoAnswerError(AnswerError):
    """An endpoint that was asked several times and had no usable answer."""


@dataclass(frozen=True)
class Completion:
    """A model's answer, and what it cost; None where the endpoint does not say."""

    text: str
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True)
class Try:
    """One request: what came back, if anything did, and why it could not be used, if it could not."""

    completion: Completion | None
    error: AnswerError | None


@dataclass(frozen=True)
class ChatEndpoint:
    """One model behind `{base_url}/chat/completions`.

    Attributes:
        base_url: Such as "http://127.0.0.1:8000/v1".
        model: As the endpoint calls it.
        api_key_env: The environment variable that holds the API key; unset: none is sent. It is never logged.
        timeout_s: Seconds to wait for an answer.

    Raises:
        AnswerError: when the base URL is none, or holds a password.
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
            raise AnswerError(f"the base URL holds a user name or password; put the key into {self.api_key_env}")
        if not usable or not self.base_url.isascii() or not self.base_url.isprintable() or " " in self.base_url:
            raise AnswerError(f"the base URL is {self.base_url!r}, expected one such as 'http://127.0.0.1:8000/v1'")

    def ask(
        self,
        messages: list[Message],
        read: Callable[[str], T],
        watch: Callable[[Try], None],
        *,
        about: str,
        temperature: float,
        seed: int,
        retries: int,
        pause_s: float,
    ) -> T:
        """Ask until an answer can be read; the model is told what was wrong with the one before.

        Args:
            messages: The conversation so far, which ends with the user's.
            read: Returns what an answer says; raises AnswerError, which the model gets to read.
            watch: Told of every try.
            about: What is asked for, for the message of an error.
            temperature: Of sampling.
            seed: Of the first try; each that follows has the next.
            retries: More tries after a bad answer, or none.
            pause_s: Before the next try where the endpoint is busy; doubled each time.

        Raises:
            NoAnswerError: when no try gave a usable answer, with the last reason.
            AnswerError: as `complete`, at once, where another try will not help.
        """
        conversation, reason = messages, ""
        for attempt in range(retries + 1):
            try:
                completion = self.complete(conversation, temperature, seed + attempt)
            except UnsteadyError as error:
                watch(Try(None, error))
                reason = str(error)
                if attempt < retries:
                    time.sleep(pause_s * 2**attempt)
                continue
            except AnswerError as error:
                watch(Try(None, error))
                raise
            try:
                answer = read(completion.text)
            except AnswerError as error:
                watch(Try(completion, error))
                reason = str(error)
            else:
                watch(Try(completion, None))
                return answer
            conversation = [
                *messages,  # one bad answer at a time: a small model's context is short
                {"role": "assistant", "content": completion.text},
                {
                    "role": "user",
                    "content": f"That cannot be used: {reason}. Answer again, with the JSON object alone.",
                },
            ]
        raise NoAnswerError(
            f"{self.base_url}: the model {self.model!r} gave no usable answer to {about} in {retries + 1} tries;"
            f" the last: {reason}"
        )

    def complete(self, messages: list[Message], temperature: float, seed: int) -> Completion:
        """Return the model's answer to a conversation, which is asked to be one JSON object.

        Raises:
            UnsteadyError: when another try may help.
            AnswerError: when it will not: nobody listens, the key is refused, the request is not understood.
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
            raise AnswerError(
                f"{self.base_url}: cannot be reached ({error}); start the endpoint, or correct the base URL",
                "unreachable",
            ) from error
        except httpx2.HTTPError as error:  # the connection broke
            raise UnsteadyError(f"{self.base_url}: the connection broke ({error}); try again", "broken off") from error
        if not response.is_success:
            raise self._refusal(response.status_code, response.text)
        try:
            return _completion(response.json())
        except (ValueError, RecursionError) as error:
            raise UnsteadyError("the endpoint's answer is not JSON", "no completion") from error

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key.isascii() or not key.isprintable():  # the HTTP library would quote it
            raise AnswerError(f"{self.api_key_env} holds characters that no API key has; set it anew")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _refusal(self, status: int, body: str) -> AnswerError:
        where, kind = f"{self.base_url}: HTTP {status}", f"HTTP {status}"
        if status in _HTTP_UNAUTHORIZED:  # the body is not quoted: it may hold a part of the key
            return AnswerError(f"{where}, the API key is missing or refused; set {self.api_key_env}", kind)
        if status == _HTTP_BUSY or status >= 500:
            return UnsteadyError(f"{where}, the endpoint is busy or broken; try again later", kind)
        key = os.environ.get(self.api_key_env, "").strip()
        said = " ".join((body.replace(key, "***") if key else body).split())[:_LONGEST_QUOTE]
        return AnswerError(f"{where} for the model {self.model!r}; check base URL and model: {said or 'no word'}", kind)


def _completion(data: Any) -> Completion:
    """Return the text of the first choice, and the tokens that were counted."""
    try:
        content = data["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise UnsteadyError("the endpoint's answer holds no choices[0].message.content", "no completion") from error
    if not isinstance(content, str):
        raise UnsteadyError("choices[0].message.content is no text", "no completion")
    text = content.encode(errors="replace").decode()  # half a character cannot be sent back, or printed
    usage = data.get("usage")
    return Completion(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _count(usage: Any, key: str) -> int | None:
    count = usage.get(key) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
