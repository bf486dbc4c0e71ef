"""A headless Chromium, driven over the DevTools protocol through two pipes: no driver program, no Python package.

Pages are local files. Every message of the page's console, every refusal of its security policy and every request that
is not for the page itself is kept.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
SECONDS = 60  # for one answer


class Browser:
    """`with Browser(folder) as browser`: folder is its own, for its profile."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        to_browser, ours = os.pipe()
        theirs, from_browser = os.pipe()
        self._write, self._read = ours, theirs
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to be root with it
        options = [
            *("--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
            f"--user-data-dir={folder}",
        ]
        # Chromium reads from 3 and writes to 4
        command = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        given = ["bash", "-c", command, "bash", str(to_browser), str(from_browser), PROGRAM, *root, *options]
        self._log = open(folder.parent / f"{folder.name}.log", "wb")  # noqa: SIM115
        self._process = subprocess.Popen(
            given, pass_fds=(to_browser, from_browser), stdout=self._log, stderr=self._log, start_new_session=True
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._last = b"", 0
        self.messages: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    _session: str | None = None

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        if self._process.poll() is None:
            self._call("Browser.close")
        self._process.wait(SECONDS)
        os.close(self._write)
        os.close(self._read)
        self._log.close()

    def open(
        self, path: Path, *, width: int = 1280, height: int = 800, dark: bool = False, script: bool = True
    ) -> None:
        """Show a file in a window of that size, as a phone if it is narrow."""
        self.messages, self.requests = [], []
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)
        self._call("Emulation.setScriptExecutionDisabled", value=not script)
        self._call("Page.navigate", url=path.resolve().as_uri())
        self._until("Page.loadEventFired")
        self.requests = [url for url in self.requests if url != path.resolve().as_uri()]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives; AssertionError if it throws."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """A mouse click in the middle of the first element that fits."""
        box = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{box}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.value(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({box}.getClientRects()[0])")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, *keys: str) -> None:
        """Press keys one after the other: characters, or names such as Escape, ArrowRight and Tab."""
        codes = {"Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, "Enter": 13}
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            code = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
            self._call("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
            self._call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def screenshot(self, path: Path, *, top: int = 0, height: int | None = None) -> None:
        """The page as PNG: the window, or so many pixels of the page from `top`."""
        clip: dict[str, Any] = {}
        if height is not None:
            width = self.value("document.documentElement.clientWidth")
            clip = {"clip": {"x": 0, "y": top, "width": width, "height": height, "scale": 1}}
        data = self._call("Page.captureScreenshot", captureBeyondViewport=True, **clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(number=self._last)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    def _until(self, event: str | None = None, *, number: int | None = None) -> dict[str, Any]:
        """The next answer of that number, or event of that name; what comes before is noted."""
        end = time.monotonic() + SECONDS
        while True:
            while b"\0" not in self._buffer:
                ready = select.select([self._read], [], [], max(0, end - time.monotonic()))[0]
                data = os.read(self._read, 1 << 20) if ready else b""
                assert data, f"the browser {'ended' if ready else 'does not answer'}; see {self._log.name}"
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(line)
            self._note(message)
            if (number is not None and message.get("id") == number) or (event and message.get("method") == event):
                return dict(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.messages.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.messages.append(json.dumps(parameters["args"]))
            case "Log.entryAdded":
                self.messages.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])


def shots(browser: Browser, page: Path, folder: Path, widths: Sequence[int] = (390, 1280)) -> list[Path]:
    """Screenshots of a whole page in both colour schemes, 2,000 pixels each."""
    made = []
    for width in widths:
        for dark in (False, True):
            browser.open(page, width=width, dark=dark)
            height = browser.value("document.documentElement.scrollHeight")
            for number, top in enumerate(range(0, height, 2000)):
                path = folder / f"{width}-{'dark' if dark else 'light'}-{number}.png"
                browser.screenshot(path, top=top, height=min(2000, height - top))
                made.append(path)
    return made


if __name__ == "__main__":  # python tests/helpers/browser.py RUN/report.html FOLDER: screenshots to look at
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile) / "profile") as opened:
        for shot in shots(opened, Path(sys.argv[1]), Path(sys.argv[2])):
            print(shot)
        print(opened.messages, [url[:80] for url in opened.requests])
