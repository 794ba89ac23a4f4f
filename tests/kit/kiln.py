"""A whole Kiln as a process of its own, as a user runs it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kit import procfs
from tests.kit.server_xml import ServerXml

TOKEN = "test-token"
AUTHORIZATION = "Basic " + base64.b64encode(TOKEN.encode()).decode()
ROOT = Path(__file__).resolve().parents[2]
#: What `make install` makes, beside the Python that runs the tests.
COMMAND = Path(sys.executable).with_name("kiln")

#: No proxy between a test and loopback, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class KilnFailed(AssertionError):
    """The engine did not do what every test relies on. The message ends with its log."""


class KilnProcess:
    """``kiln run`` with the configuration ``server`` and the state in ``folder``.

    As a context manager it starts, waits until the API answers, and on leaving stops with SIGTERM and asserts the
    promise of a clean end: exit status 0 within 5 s.
    """

    def __init__(
        self,
        folder: Path,
        server: ServerXml | None = None,
        *,
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.server = server or ServerXml()
        self.ports = self.server.ports
        self.log = folder / "kiln.log"
        self.state = folder / "state"
        self.config = folder / "Server.xml"
        self.environment = environment or {}
        #: What runs the command: ``("taskset", "-c", "0")``, a profiler.
        self.prefix = tuple(prefix)
        self.process: subprocess.Popen[bytes] | None = None
        #: Seconds from the start of the process to the first answer of the API.
        self.ready_after = 0.0
        self.started_at = 0.0

    # -- life

    def start(self, *, timeout: float = 20) -> None:
        """Start and wait for the API."""
        self.launch()
        self.wait_ready(timeout)

    def launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server.write(self.config)
        environment = {**os.environ, "KILN_ACCESS_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1", **self.environment}
        self.started_at = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, str(COMMAND), "run", "--config", str(self.config), "--state", str(self.state)],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_ready(self, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running:
                raise self.failed(f"ended with status {self._process.returncode} before it answered")
            try:
                self.api("/v1/version", timeout=2)
            except (OSError, urllib.error.HTTPError):
                time.sleep(0.01)
                continue
            self.ready_after = time.monotonic() - self.started_at
            return
        raise self.failed(f"no answer from the API within {timeout} s")

    def stop(self) -> None:
        """SIGTERM; it must end with status 0 within 5 s."""
        if self.process is None:
            return
        if self.running:
            self.process.terminate()
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise self.failed("still there 5 s after SIGTERM") from None
        if status != 0:
            raise self.failed(f"exit status {status} after SIGTERM")

    def kill(self) -> None:
        """SIGKILL of the engine process alone, and wait for its end."""
        if self.process is not None:
            if self.running:
                self.process.kill()
            self.process.wait(10)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
            error.add_note(f"{self.log}:\n{self.said()}")
            return
        self.stop()

    # -- what it is

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("not started")
        return self.process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def workers(self) -> list[int]:
        """Process ids of its codec and other child processes."""
        return procfs.children(self.pid)

    def cpu(self) -> float:
        """User and system seconds of the engine process alone."""
        return procfs.cpu_seconds(self.pid)

    def worker_cpu(self) -> dict[int, float]:
        return {pid: procfs.cpu_seconds(pid) for pid in self.workers}

    def rss(self) -> int:
        """Resident bytes of the engine process alone."""
        return procfs.rss_bytes(self.pid)

    def said(self, lines: int = 60) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def failed(self, why: str) -> KilnFailed:
        return KilnFailed(f"kiln {why}\n{self.said()}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    # -- how to reach it

    def rtmp(self, stream: str, app: str = "app") -> str:
        return f"rtmp://127.0.0.1:{self.ports.rtmp}/{app}/{stream}"

    def hls(self, stream: str, file: str = "llhls.m3u8", app: str = "app") -> str:
        return f"http://127.0.0.1:{self.ports.http}/{app}/{stream}/{file}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.api}"

    def api(self, path: str, *, timeout: float = 5) -> Any:
        """The ``response`` member of an API answer. Raises urllib's HTTPError for another status than 200."""
        request = urllib.request.Request(self.api_url + path, headers={"Authorization": AUTHORIZATION})
        with _opener.open(request, timeout=timeout) as answer:
            return json.load(answer).get("response")

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 10) -> tuple[int, Any]:
        """Status and JSON of the answer, whatever the status is."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": AUTHORIZATION}
        request = urllib.request.Request(self.api_url + path, data=data, headers=headers, method=method)
        try:
            with _opener.open(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def streams(self, app: str = "app") -> list[str]:
        found = self.api(f"/v1/vhosts/default/apps/{app}/streams")
        return list(found)

    def wait_stream(self, name: str, *, app: str = "app", timeout: float = 10) -> None:
        self._until(lambda: name in self.streams(app), f"no stream {app}/{name} within {timeout} s", timeout)

    def wait_no_stream(self, name: str, *, app: str = "app", timeout: float = 10) -> None:
        self._until(lambda: name not in self.streams(app), f"stream {app}/{name} is still there", timeout)

    def wait_said(self, text: str, timeout: float = 10) -> None:
        """Until ``text`` is in the log."""
        self._until(lambda: text in self.said(1_000_000), f"did not say {text!r}", timeout)

    def _until(self, condition: Any, why: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise self.failed(why)
            time.sleep(0.05)
