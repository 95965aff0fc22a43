"""A process that speaks: reads one JSON request a line, writes the samples of each sentence. Started by `espeak.py`.

espeak-ng keeps state from sentence to sentence, and the same words come out with other samples. So this process
initialises the library once, never speaks itself, and forks for each sentence: every child starts from the same state.
It imports nothing of ours and nothing heavy, so that a fork copies little.

A request is `{"text", "voice", "rate", "pitch", "range"}`. The answer is a little-endian header of three unsigned
32-bit numbers (samples per second, bytes of JSON, bytes of audio), then the JSON, then 16-bit samples. The JSON is
`{"words": [[first character, characters, milliseconds], ...]}` or `{"error": "..."}`.
"""

import ctypes
import json
import os
import struct
import sys
from typing import Any

_SYNCHRONOUS = 2
_CHARACTERS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_END_OF_EVENTS, _WORD = 0, 1  # espeak_EVENT_TYPE
NOT_INSTALLED = 3  # exit code
HEADER = struct.Struct("<III")


class _Event(ctypes.Structure):
    """espeak_EVENT of `speak_lib.h`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _load() -> tuple[Any, int]:
    """Return the initialised library and its sample rate."""
    import espeakng_loader  # noqa: PLC0415 - its absence is reported, not raised

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    return library, rate


def _speak(library: Any, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return what was spoken: when each word begins, and the samples."""
    audio, words = bytearray(), []

    def take(samples: Any, count: int, events: Any) -> int:
        if count > 0:
            audio.extend(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != _END_OF_EVENTS:
            event = events[index]
            if event.type == _WORD:
                words.append([event.text_position - 1, event.length, event.audio_position])
            index += 1
        return 0

    callback = _Callback(take)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        return {"error": f"espeak-ng has no voice {request['voice']!r}"}, b""
    for parameter, key in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
        library.espeak_SetParameter(parameter, request[key], 0)
    text = request["text"].encode() + b"\0"
    library.espeak_Synth(text, len(text), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None)
    library.espeak_Synchronize()
    return {"words": words}, bytes(audio)


def _answer(rate: int, about: dict[str, Any], audio: bytes) -> None:
    text = json.dumps(about).encode()
    sys.stdout.buffer.write(HEADER.pack(rate, len(text), len(audio)) + text + audio)
    sys.stdout.buffer.flush()


def main() -> int:
    """Answer requests until stdin is closed."""
    try:
        library, rate = _load()
    except ImportError:
        return NOT_INSTALLED
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _answer(rate, *_speak(library, json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            _answer(rate, {"error": f"espeak-ng stopped with status {status}"}, b"")
    return 0


if __name__ == "__main__":
    sys.exit(main())
