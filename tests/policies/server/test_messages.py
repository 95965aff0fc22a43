"""Client events are read strictly: what is no event is a typed error, and nothing else happens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.server.messages import ProtocolError, parse_audio, parse_event


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("[]", "invalid_json"),
        ("3", "invalid_json"),
        ('{"type": NaN}', "invalid_json"),
        ('{"type": "x", "y": -Infinity}', "invalid_json"),
        ('{"type": "x", "y": 1e999}', "invalid_json"),
        ('{"type": "x", "type": "y"}', "invalid_json"),
        ('{"type": "x"} {}', "invalid_json"),
        ('{"type": "x", "y": ' + "[" * 40 + "]" * 40 + "}", "invalid_json"),
        ("[" * 500_000, "invalid_json"),
        ('{"y": ' + "9" * 10_000 + "}", "invalid_json"),
        ('{"type": "x", "y": ' + "9" * 400 + "}", "invalid_json"),
        ('{"type": "x", "y": [' + "[]," * 20_000 + "1]}", "invalid_json"),
        ("{}", "invalid_event"),
        ('{"type": 3}', "invalid_event"),
        ('{"type": "x", "event_id": 3}', "invalid_event"),
    ],
)
def test_what_is_no_event_is_refused(text: str, code: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_event(text, 32, 20_000)
    assert refused.value.code == code


@pytest.mark.parametrize("audio", [None, 3, "AAA", "A===", "AA AA", "AAAA\n", "AA==AAAA", "AAA=A", "QQ==", "é", "-_-_"])
def test_what_is_no_audio_is_refused(audio: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_audio(audio, "audio")
    assert refused.value.code == "invalid_audio"


@given(st.binary(max_size=64).filter(lambda data: len(data) % 2 == 0))
def test_audio_comes_back_sample_by_sample(data: bytes) -> None:
    samples = parse_audio(base64.b64encode(data).decode(), "audio")
    assert (samples * 32768).astype("<i2").tobytes() == data


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_any_value_is_an_event_or_an_error(value: object) -> None:
    with pytest.raises(ProtocolError):
        parse_event(repr(value), 32, 100)
