"""Headless Chromium, spoken to over its own pipe: no driver, no port, the standard library only.

Knows the DevTools protocol's frame (JSON objects, each ended by a NUL) and the few commands that tests need.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from types import TracebackType
from typing import Any, Self

#: Names under which systems install it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Seconds after which a command that has not been answered is an error.
PATIENCE = 60


class NoBrowser(AssertionError):
    """There is no Chromium on PATH: `make browser` cannot say anything without it."""


def _above(end: int) -> int:
    """The same end of a pipe under a number that the browser's own, 3 and 4, do not overwrite."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved


class ScriptFailed(AssertionError):
    """A script that the test ran in the page threw."""


def find_chromium() -> str:
    """Where Chromium is; raises NoBrowser."""
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    raise NoBrowser(f"none of {', '.join(NAMES)} is on PATH: install Chromium (Debian: apt-get install chromium)")


@dataclass(kw_only=True)
class Chromium:
    """One browser with one page; every request it makes and every complaint it has is kept."""

    profile: Path
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        theirs_in, self._out = (_above(end) for end in os.pipe())
        self._in, theirs_out = (_above(end) for end in os.pipe())
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={self.profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ]

        def pipes() -> None:
            """The browser reads descriptor 3 and writes descriptor 4."""
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [find_chromium(), *flags],
            close_fds=False,  # ours are closed on exec; 3 and 4 are meant to be handed over
            preexec_fn=pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._last, self._session = b"", 0, ""
        try:
            self._attach()
        except BaseException:
            self._end()
            raise
        return self

    def _attach(self) -> None:
        targets = self.command("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.command("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        os.close(self._out)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._in)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer, noting events that come in between."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._send(message)
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise ScriptFailed(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _send(self, message: Mapping[str, Any]) -> None:
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._out, rest) :]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._in], [], [], PATIENCE)
            assert ready, f"the browser has said nothing for {PATIENCE} s"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        frame, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(frame))

    def _note(self, event: Mapping[str, Any]) -> None:
        method, parameters = event.get("method", ""), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(parameters["args"]))

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there."""
        self.requests.clear()
        self.complaints.clear()
        self.command("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + PATIENCE
        while self.run("location.href") != path.as_uri() or self.run("document.readyState") != "complete":
            assert time.monotonic() < deadline, f"{path} is not there after {PATIENCE} s"
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """What an expression of the page comes to; promises are waited for."""
        answer = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise ScriptFailed(json.dumps(answer["exceptionDetails"], indent=1))
        return answer["result"].get("value")

    def look(self, width: int, *, height: int = 900, dark: bool = False, printed: bool = False) -> None:
        """Set the window's width, the colour scheme and the medium."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=features)

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        answer = self.command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
        return base64.b64decode(answer["data"])
