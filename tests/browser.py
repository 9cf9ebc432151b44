"""A real browser without a window, spoken to through a pipe: no driver, no server, no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """Chromium with one page, by the DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        if CHROMIUM is None:
            pytest.skip("no browser: apt-get install --no-install-recommends chromium")
        ours, theirs = os.pipe(), os.pipe()
        words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        words += ["--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}", "about:blank"]
        # Chromium reads file 3 and writes file 4.
        wrapped = ["bash", "-c", f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}', "bash", *words]
        silence = subprocess.DEVNULL
        kept = (ours[0], theirs[1])
        self._process = subprocess.Popen(wrapped, pass_fds=kept, stdout=silence, stderr=silence)
        os.close(ours[0])
        os.close(theirs[1])
        self._write, self._read = ours[1], theirs[0]
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something, and wait for the answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._receive()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]
            self.events.append(said)

    def _receive(self, patience: float = 30) -> dict[str, Any]:
        end = time.monotonic() + patience
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def open(self, path: Path) -> None:
        """Load a file, and wait until its pictures are there."""
        self.visit(path.resolve().as_uri())

    def visit(self, url: str) -> None:
        """Load an address, and wait until its pictures are there."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 30
        ready = "document.readyState === 'complete' && [...document.images].every((one) => one.complete)"
        while not self.run(ready):
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it becomes."""
        options = {"returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as `ArrowLeft`."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36}
        codes |= {"ArrowLeft": 37, "ArrowRight": 39}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if key == " " else {}
        known = {"key": key, "code": key.strip() or "Space", "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **known, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def resize(self, width: int, height: int) -> None:
        """Give the page a size in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def set_scheme(self, scheme: str) -> None:
        """Prefer `dark` or `light`."""
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=wanted)

    def shoot(self, path: Path) -> None:
        """Write what the page shows as PNG, the whole of it."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    @property
    def faults(self) -> list[str]:
        """Errors and warnings of the console, and what scripts have thrown, since the page was opened."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            kind = parameters.get("type") or parameters.get("entry", {}).get("level")
            if event.get("method") == "Runtime.exceptionThrown" or (
                event.get("method") in ("Runtime.consoleAPICalled", "Log.entryAdded")
                and kind in ("error", "warning", "assert")
            ):
                found.append(json.dumps(parameters))
        return found

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, but for data within it."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(10)
        os.close(self._write)
        os.close(self._read)
