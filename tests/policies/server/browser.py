"""A headless Chromium that hears a file as its microphone, driven by the DevTools protocol."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.policies.server.conftest import PATIENT_S, Event

NAMES = ("chromium", "chromium-browser", "google-chrome")
OTHER_NAME = "page.test"  # of this machine, in the browser


def find_browser() -> str:
    """Return Chromium's path, or skip the test."""
    wanted = os.environ.get("SOUNDFLOW_CHROMIUM")
    if wanted is not None:
        assert shutil.which(wanted), f"SOUNDFLOW_CHROMIUM is {wanted}, which is no program"
        return wanted
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is there: install Chromium, or name one in SOUNDFLOW_CHROMIUM")
    return found


class Tab:
    """A tab of the browser, and everything that it has told.

    Args:
        socket: To the tab's DevTools.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._calls = socket, 0
        self.told: list[Event] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Event:
        """Call a method of the protocol; return its result."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(PATIENT_S))
            if message.get("id") == self._calls:
                assert "error" not in message, f"{method}: {message['error']}"
                result: Event = message["result"]
                return result
            self.told.append(message)

    def run(self, script: str) -> Any:
        """Return what an expression is, or what its promise comes to."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, what: str, holds: Callable[[], Any]) -> Any:
        """Wait until something holds of the page, one picture after the other; return it."""
        end = time.monotonic() + PATIENT_S
        while not (found := holds()):
            assert time.monotonic() < end, (
                f"{what}: it did not come; the page says {self.run('document.body.innerText')!r}"
            )
            self.run("new Promise(requestAnimationFrame)")
        return found

    def open(self, url: str) -> None:
        """Go to a page, and wait until its modules have run."""
        self.call("Page.navigate", url=url)
        self.until(url, lambda: self.run(f"location.href === '{url}' && document.readyState === 'complete'"))

    def centre(self, selector: str) -> dict[str, float]:
        """Bring an element into sight, and return where it is."""
        self.run(f"document.querySelector('{selector}').scrollIntoViewIfNeeded()")
        box = f"document.querySelector('{selector}').getBoundingClientRect()"
        x, y = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        return {"x": x, "y": y}

    def click(self, selector: str) -> None:
        """Click on an element as a hand does."""
        for kind in ("mousePressed", "mouseReleased"):
            place = self.centre(selector)
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def drop(self, selector: str, file: Path) -> None:
        """Drop a file onto an element."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, data=data, **self.centre(selector))

    def frames(self, way: str) -> list[Event]:
        """Return the messages that were `Sent` or `Received` by the page's WebSockets so far."""
        kind = f"Network.webSocketFrame{way}"
        return [json.loads(e["params"]["response"]["payloadData"]) for e in self.told if e["method"] == kind]

    def requests(self) -> set[str]:
        """Return every address that the page has asked for something."""
        asked = {e["params"]["request"]["url"] for e in self.told if e["method"] == "Network.requestWillBeSent"}
        return asked | {e["params"]["url"] for e in self.told if e["method"] == "Network.webSocketCreated"}

    def complaints(self) -> list[Event]:
        """Return what the console shows as errors or warnings."""
        shown = []
        for message in self.told:
            params = message["params"]
            level = params.get("entry", {}).get("level") or params.get("type")
            if message["method"] == "Runtime.exceptionThrown" or (
                message["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled") and level in ("error", "warning")
            ):
                shown.append(message)
        return shown

    def resize(self, width: int, height: int) -> None:
        """Give the page a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


@contextmanager
def browser(profile: Path, microphone: Path) -> Iterator[str]:
    """Run Chromium with a file as its microphone, which anybody may use; yield the address of its DevTools."""
    options = [
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        f"--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no network
        "--disable-background-networking",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--no-proxy-server",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # which root cannot have
    ]
    with subprocess.Popen([find_browser(), *options, "about:blank"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = list[str]()
            for line in process.stderr:
                said.append(line)
                if line.startswith("DevTools listening on "):
                    break
            else:
                pytest.fail(f"Chromium did not start: {''.join(said)}")
            yield said[-1].split()[-1]
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def new_tab(devtools: str) -> Iterator[Tab]:
    """Open a tab, and close it at the end."""
    with _socket(devtools) as whole:
        whole.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        target = json.loads(whole.recv(PATIENT_S))["result"]["targetId"]
        with _socket(f"{devtools.partition('/devtools/')[0]}/devtools/page/{target}") as own:
            yield Tab(own)
            whole.send(json.dumps({"id": 2, "method": "Target.closeTarget", "params": {"targetId": target}}))
            whole.recv(PATIENT_S)


def _socket(url: str) -> ClientConnection:
    return connect(url, proxy=None, max_size=None, max_queue=None)
