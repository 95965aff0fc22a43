"""The page in a real browser with a file as its microphone: what somebody does with it, and what they see."""

import base64
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import policies.server.realtime
from policies.server.limits import Close
from policies.server.resampling import PROTOCOL_RATE
from tests.policies.server.browser import OTHER_NAME, Tab, browser, new_tab
from tests.policies.server.conftest import Event, client, run, running

KEY_CODES = {"Home": 36, "End": 35}
PARTS = "h1, #state, button, .controls label, figure, .legend > span, dt, dd, h2, .hint"
DECISIONS = ("response.listen", "response.speak")


def say(tab: Tab) -> str:
    return str(tab.run("document.querySelector('#state').textContent"))


def decisions(tab: Tab) -> list[Event]:
    return [event for event in tab.frames("Received") if event["type"] in DECISIONS]


def replies(tab: Tab) -> list[str]:
    texts: list[str] = tab.run("[...document.querySelectorAll('#replies li span')].map(reply => reply.textContent)")
    return texts


def sent(tab: Tab) -> np.ndarray:
    """Return the samples that the page has sent."""
    pieces = [f["audio"] for f in tab.frames("Sent") if f["type"] == "input_audio_buffer.append"]
    return np.frombuffer(b"".join(map(base64.b64decode, pieces)), "<i2") / 32768


def colours(tab: Tab, canvas: str) -> int:
    """Return how many colours a canvas shows."""
    pixels = f"(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data)(document.querySelector('{canvas}'))"
    return int(tab.run(f"new Set(new Uint32Array({pixels}.buffer)).size"))


def threshold(tab: Tab) -> float:
    """Return the session's threshold, as the server has said last."""
    said = [f["session"]["soundflow"]["threshold"] for f in tab.frames("Received") if f["type"] == "session.updated"]
    return float(said[-1])


def press(tab: Tab, key: str, on: str) -> None:
    tab.run(f"document.querySelector('{on}').focus()")
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEY_CODES[key])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second that is loud in the right channel alone."""
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    right = 0.2 * np.random.default_rng(0).standard_normal(PROTOCOL_RATE)
    sf.write(path, np.stack((0 * right, right), axis=1), PROTOCOL_RATE)
    return path


@pytest.fixture(scope="module")
def devtools(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("profile"), microphone=sound) as found:
        yield found


@pytest.fixture
def tab(devtools: str) -> Iterator[Tab]:
    with new_tab(devtools) as opened:
        yield opened


def test_the_microphone_is_heard_and_what_is_decided_is_shown(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    assert say(tab) == "not connected"
    tab.click("#microphone")
    shown = set[str]()
    tab.until("decisions", lambda: shown.add(tab.run("document.querySelector('#p').textContent")) or len(shown) > 2)
    assert say(tab) in ("listening to the microphone", "speaking")
    assert np.abs(sent(tab)).max() > 0.1
    assert len(decisions(tab)) >= 2
    assert colours(tab, "#spectrogram") > 10
    assert colours(tab, "#decisions") > 2
    tab.click("#stop")
    assert say(tab) == "stopped"
    tab.until("the end", lambda: any(event["method"] == "Network.webSocketClosed" for event in tab.told))
    assert {url.split("/")[2] for url in tab.requests()} == {address.split("/")[2]}
    assert not tab.complaints()


def test_the_threshold_is_the_servers(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    tab.click("#microphone")
    tab.until("decisions", lambda: decisions(tab))
    for key, wanted, taken in (("Home", 0.0, "response.speak"), ("End", 1.0, "response.listen")):
        press(tab, key, on="#threshold")
        tab.until("the threshold", lambda wanted=wanted: threshold(tab) == wanted)
        before = len(decisions(tab)) + 1  # one may have been on its way
        new = tab.until("a decision", lambda n=before: [d for d in decisions(tab)[n:] if d["probability"] is not None])
        assert {decision["type"] for decision in new} == {taken}
    assert replies(tab)[0]
    tab.until("silence", lambda: say(tab) == "listening to the microphone")


@pytest.mark.parametrize("way", ["chosen", "dropped"])
def test_a_file_is_heard_from_its_first_sample_and_answered(tab: Tab, address: str, sound: Path, way: str) -> None:
    tab.open(f"{address}/")
    press(tab, "Home", on="#threshold")
    if way == "chosen":
        tab.choose("#file", sound)
    else:
        tab.drop("main", sound)
    tab.until("a reply", lambda: any(replies(tab)))
    tab.until("the end of the file", lambda: say(tab) == "noise.wav is over; listening to silence")
    tab.until("silence", lambda: not sent(tab)[-PROTOCOL_RATE // 10 :].any())
    (loud,) = np.nonzero(sent(tab))
    assert np.ptp(loud) == pytest.approx(PROTOCOL_RATE, abs=PROTOCOL_RATE // 100)
    assert colours(tab, "#spectrogram") > 10
    assert not tab.complaints()


def test_a_reply_is_heard_where_it_is_asked_for(tab: Tab, address: str, sound: Path) -> None:
    tab.open(f"{address}/")
    tab.run("""{
        const { start } = AudioBufferSourceNode.prototype;
        window.heard = [];
        AudioBufferSourceNode.prototype.start = function (when) {
            heard.push(...this.buffer.getChannelData(0));
            start.call(this, when);
        };
    }""")
    press(tab, "Home", on="#threshold")
    tab.click("#speak")
    tab.click("#microphone")
    done = tab.until("a reply", lambda: [e for e in tab.frames("Received") if e["type"] == "response.done"])[0]
    said = [e["delta"] for e in tab.frames("Received") if e["type"] == "response.output_audio.delta"]
    pcm16 = np.frombuffer(b"".join(map(base64.b64decode, said)), "<i2") / 32768
    assert len(pcm16) > PROTOCOL_RATE // 10
    played = tab.until("its sound", lambda: (h := tab.run("heard")) and len(h) >= len(pcm16) and h)
    np.testing.assert_allclose(played[: len(pcm16)], pcm16)
    assert done["response"]["output"][0]["content"][0]["transcript"] in replies(tab)
    assert not tab.complaints()


def test_an_old_error_is_not_why_a_connection_is_lost(tab: Tab, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies.server.realtime, "can_speak", lambda: False)
    with running(policy) as (server, address):
        tab.open(f"{address}/")
        tab.click("#speak")
        tab.click("#microphone")
        tab.until("the error", lambda: "uv sync --extra speech" in say(tab))
        before = len(decisions(tab))
        tab.until("a decision", lambda: decisions(tab)[before:])
        (connection,) = server._service.connections
        connection._loop.call_soon_threadsafe(connection.end, Close.IDLE)
        tab.until("the end", lambda: say(tab) == "the connection was lost")


def test_a_key_that_no_browser_can_send_is_not_shown(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    tab.run("document.querySelector('#key').focus()")
    tab.call("Input.insertText", text="s3cret=")
    tab.click("#microphone")
    tab.until("a refusal", lambda: "letters, digits" in say(tab))
    assert "s3cret" not in say(tab)


def test_a_server_that_cannot_speak_says_so_and_writes(tab: Tab, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies.server.realtime, "can_speak", lambda: False)
    tab.open(f"{address}/")
    press(tab, "Home", on="#threshold")
    tab.click("#speak")
    tab.click("#microphone")
    tab.until("the remedy", lambda: "uv sync --extra speech" in say(tab))
    tab.until("a reply", lambda: any(replies(tab)))
    assert threshold(tab) == 0.0
    assert not tab.run("document.querySelector('#speak').checked")


def test_what_is_cut_is_not_heard_to_its_end(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    tab.click("h1")  # a hand
    queued = tab.run("""import('/page/voice.js').then(async ({ Voice }) => {
        const voice = new Voice(new AudioContext({ sampleRate: 24000 }));
        [1, 2, 3].forEach(() => voice.play(new Float32Array(24000 * 600)));
        const before = voice.queue.size;
        voice.stop();
        while (voice.queue.size) await new Promise(requestAnimationFrame);
        return before;
    })""")
    assert queued == 3


def test_a_reply_that_is_cut_is_silent_at_once(tab: Tab, talkative: Path) -> None:
    with running(talkative, speak=True) as (server, address):
        tab.open(f"{address}/")
        tab.run("""{
            const { stop } = AudioBufferSourceNode.prototype;
            window.cut = 0;
            AudioBufferSourceNode.prototype.stop = function () {
                cut += 1;
                stop.call(this);
            };
        }""")
        press(tab, "Home", on="#threshold")
        tab.click("#speak")
        tab.click("#microphone")
        tab.until("sound", lambda: [e for e in tab.frames("Received") if e["type"] == "response.output_audio.delta"])
        assert tab.run("cut") == 0
        (connection,) = server._service.connections
        cancel = {"type": "response.cancel"}
        connection._loop.call_soon_threadsafe(connection._carry_on, lambda: connection.session.receive(cancel))
        tab.until("silence", lambda: tab.run("cut"))
        done = next(e for e in tab.frames("Received") if e["type"] == "response.done")
        assert done["response"]["status"] == "cancelled"


def test_a_microphone_that_is_refused_is_named(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    tab.run("navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('Permission denied')), 0")
    tab.click("#microphone")
    tab.until("a refusal", lambda: say(tab) == "the microphone: Permission denied")
    assert tab.run("document.querySelector('#stop').disabled")
    assert not tab.frames("Received")


def test_two_quick_clicks_are_one_session(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    tab.click("h1")  # a hand
    tab.run("document.querySelector('#microphone').click(), document.querySelector('#microphone').click()")
    tab.until("a decision", lambda: decisions(tab))
    opened = [event["method"] for event in tab.told if event["method"].startswith("Network.webSocketC")]
    assert opened.count("Network.webSocketCreated") - opened.count("Network.webSocketClosed") == 1


def test_a_browser_that_wants_a_hand_first_gets_one(tab: Tab, address: str, sound: Path) -> None:
    tab.open(f"{address}/")
    tab.choose("#file", sound)  # as no hand does
    tab.until("the wish", lambda: say(tab) == "click anywhere to begin")
    tab.click("h1")
    tab.until("a decision", lambda: decisions(tab))
    assert "noise.wav" in say(tab)


def test_what_is_no_sound_is_named(tab: Tab, address: str) -> None:
    tab.open(f"{address}/")
    tab.choose("#file", Path(__file__))
    tab.until("a refusal", lambda: say(tab).startswith("test_page.py: "))
    assert tab.run("document.querySelector('#stop').disabled")
    assert not tab.frames("Received")


def test_a_key_is_asked_for_and_a_full_server_says_so(tab: Tab, policy: Path) -> None:
    async def take_the_only_slot() -> None:
        async with client(address, additional_headers={"Authorization": "Bearer s3cret"}) as talker:
            await talker.until("session.created")
            tab.click("#microphone")
            tab.until("a refusal", lambda: "slots" in say(tab))

    with running(policy, slots=1, key="s3cret") as (_, address):
        tab.open(f"{address}/")
        tab.click("#microphone")
        tab.until("a refusal", lambda: say(tab).startswith("not let in"))
        tab.run("document.querySelector('#key').focus()")
        tab.call("Input.insertText", text="s3cret")
        run(take_the_only_slot)
        tab.click("#microphone")
        tab.until("a decision", lambda: decisions(tab))
    tab.until("the server's stop", lambda: say(tab) == "the server stops: connect again")


def test_a_page_that_may_hear_nothing_says_what_to_do(tab: Tab, address: str) -> None:
    """Browsers give sound to `localhost` and `https` alone."""
    tab.open(f"{address.replace('127.0.0.1', OTHER_NAME)}/")
    assert "https" in say(tab)
    assert tab.run("document.querySelector('#microphone').disabled")


@pytest.mark.parametrize("width", [320, 375, 1100])
def test_nothing_overlaps_or_sticks_out(tab: Tab, address: str, width: int) -> None:
    tab.resize(width, 720)
    tab.open(f"{address}/")
    assert tab.run("document.documentElement.scrollWidth") <= width
    boxes = tab.run(f"""[...document.querySelectorAll("{PARTS}")].map((part) => {{
        const box = part.getBoundingClientRect();
        return [part.id || part.textContent, box.x, box.y, box.right, box.bottom];
    }})""")
    assert len(boxes) > 15
    for (one, left, top, right, bottom), (other, x, y, *_) in permutations(boxes, 2):
        assert not (left <= x < right and top <= y < bottom), f"{one} lies over {other}"
