"""Headless Chromium, driven by the DevTools protocol over two pipes, without any package."""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,900"
).split() + ["--host-resolver-rules=MAP * ~NOTFOUND"]  # keeps pages off the network
# Chromium expects the pipes at file descriptors 3 and 4.
AS_THREE_AND_FOUR = """
import os, sys
pipes = [os.dup(int(number)) for number in sys.argv[1:3]]
for ours, number in zip(pipes, (3, 4)):
    os.dup2(ours, number)
    os.set_inheritable(number, True)  # dup2 does nothing if both numbers are the same
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium_path() -> str | None:
    """Return Chromium's path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page in a Chromium of its own: `with Page() as page`."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="lite-")
        ours_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()

        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_THREE_AND_FOUR, str(ours_in), str(theirs_out)]
            + [chromium_path(), *FLAGS, f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(ours_in, theirs_out),
        )
        os.close(ours_in)
        os.close(theirs_out)
        self.number, self.unread, self.session, self.log = 0, b"", None, []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(20)
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, seconds: float = 60, **params) -> dict:
        """Send a DevTools command and return its result. Raises AssertionError if it fails, and TimeoutError."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            while b"\0" not in self.unread:
                if not select.select([self.back], [], [], max(0, end - time.monotonic()))[0]:
                    raise TimeoutError(method)
                more = os.read(self.back, 1 << 20)
                assert more, f"Chromium has ended, with {self.process.wait(10)}"
                self.unread += more
            raw, _, self.unread = self.unread.partition(b"\0")
            answer = json.loads(raw)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            if answer.get("method") == "Runtime.consoleAPICalled":
                self.log.append(" ".join(str(a.get("value", "")) for a in answer["params"]["args"]))

    def open(self, path: Path) -> None:
        """Open a file from disk, and wait until it has loaded."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + 60
        while self.value("document.readyState") != "complete" or not self.value("location.protocol == 'file:'"):
            assert time.monotonic() < end, path
            time.sleep(0.05)

    def value(self, expression: str):
        """Return the value of a JavaScript expression. Raises AssertionError if it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys, by name ("Tab", "ArrowRight", "Enter", "7"), in the element that has the focus."""
        codes = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38}
        codes |= {"ArrowRight": 39, "ArrowDown": 40}
        for key in keys:
            more = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
            code = codes.get(key, ord(key[0]))
            for kind in ("keyDown", "keyUp"):
                sent = more if kind == "keyDown" else {}
                self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **sent)
