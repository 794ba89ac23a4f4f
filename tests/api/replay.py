"""The recorded requests to OvenMediaEngine 0.20.0, asked of Kiln in the same order, and both answers made comparable.

$BOX in the recording stands for the folder of that server. Every second line has a request alone: it is asked for the
state that it leaves.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from appliance.net.tls import self_signed
from tests.api.box import RECORDED, TOKEN
from tests.kit import ffmpeg
from tests.kit.ffmpeg import SMALL, Ffmpeg
from tests.kit.kiln import KilnProcess
from tests.kit.ports import free_ports
from tests.kit.server_xml import Application, ServerXml

ROWS: list[dict[str, Any]] = [json.loads(line) for line in (RECORDED / "answers.jsonl").read_text().splitlines()]

#: Figures that no two runs share: compared by their type.
_FIGURES = re.compile(
    r"(?i)time|bytes|bitrate|framerate|interval|^id$|address|latest|avg|delta|throughput|size|count$|"
    r"^sourceUrl$|hasBframes|connections|lastRecv|lastSent|max|^ovt$"
)
_JSON_PLACE = re.compile(r"(\[HTTP\] \[JSON\] \* Line \d+, Column \d+).*", re.DOTALL)
#: The ports in the recording; 31935 is that of a server that takes what is pushed.
_PORTS = (18081, 11935, 19999, 14000, 13333, 13334, 13478, 19000, 19998, 31935)
_ICE_PORTS = "11000-11004"
#: What the recorded box pulled from itself over OVT, Kiln pulls from ffmpeg over RTMP: the lines that pull, and those
#: that name the same URL.
_OVT = "ovt://127.0.0.1:19000"
_PULLS = {179: 0, 421: 1, 422: 1}
#: Headers that each server has its own way with.
_OWN_HEADERS = ("content-length", "server", "date", "connection", "transfer-encoding", "keep-alive")


@dataclass(frozen=True, slots=True)
class Answered:
    """``headers`` are the answer's own, without those that each server has its own way with."""

    status: int
    headers: dict[str, str]
    body: str


class Translation:
    """Between the recording's folder and ports, and ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        ours = free_ports(len(_PORTS))
        self.ports = dict(zip(_PORTS, ours, strict=True))
        self.pulled = free_ports(2)
        self._to_ours = {str(port): str(mine) for port, mine in self.ports.items()}
        self._to_theirs = {mine: port for port, mine in self._to_ours.items()}

    def ours(self, text: str) -> str:
        ice = free_ports(1)[0] % 60_000
        text = text.replace("$BOX", self.folder).replace(_ICE_PORTS, f"{ice}-{ice + 4}")
        return _replaced(text, self._to_ours)

    def theirs(self, text: str) -> str:
        return _replaced(text, self._to_theirs).replace(self.folder, "$BOX")


def _replaced(text: str, numbers: dict[str, str]) -> str:
    return re.sub(r"(?<!\d)\d{4,5}(?!\d)", lambda match: numbers.get(match[0], match[0]), text)


def replay(folder: Path) -> dict[int, Answered]:
    """Our answers by line number: the requests in their order and time, beside what ran beside them then."""
    translation = Translation(folder)
    answers: dict[int, Answered] = {}
    with _running(folder, translation) as api, ExitStack() as while_dynamic:
        for row in ROWS:
            time.sleep(row["wait_s"] - 4 if row["n"] == 125 else row["wait_s"])
            if row["n"] == 125:
                while_dynamic.enter_context(_dynamic(translation))
                time.sleep(4)
            answers[row["n"]] = _ask(api, row, translation)
            if row["n"] == 130:
                while_dynamic.close()
    return answers


@contextmanager
def _running(folder: Path, translation: Translation) -> Iterator[int]:
    """Kiln with the recorded Server.xml, two publishers, and a server that takes what is pushed. The API's port."""
    for name in ("media", "media2", "rec", "dump"):
        (folder / "var" / name).mkdir(parents=True)
    _certificates(folder / "conf")
    shutil.copy(ffmpeg.source(SMALL), folder / "var" / "media" / "sample.mp4")
    ports = translation.ports
    target = ServerXml((Application("live"),))
    target = ServerXml(target.applications, type(target.ports)(target.ports.api, ports[31935], *free_ports(2)))
    environment = {
        "KILN_ACCESS_TOKEN": TOKEN, "KILN_EGRESS_ALLOW": "127.0.0.0/8", "KILN_MEDIA_ROOT": str(folder / "var"),
    }  # fmt: skip
    kiln = _Recorded(folder, translation, environment)
    port = ports[18081]
    with KilnProcess(folder / "target", target), ExitStack() as publishers:
        try:
            kiln.launch()
            _until(kiln, partial(_succeeds, port, "/v1/version"))
            for name in ("live2", "live1"):
                publishers.enter_context(_publish(f"rtmp://127.0.0.1:{ports[11935]}/app/{name}"))
                _until(kiln, partial(_succeeds, port, f"/v1/vhosts/default/apps/app/streams/{name}"))
            for source in translation.pulled:
                publishers.enter_context(_publish(f"rtmp://127.0.0.1:{source}/app/live1", "-listen", "1"))
            # What is encoded is on the air as well by then.
            time.sleep(3)
            yield port
            kiln.stop()
        finally:
            kiln.kill()


class _Recorded(KilnProcess):
    """Kiln with the recorded Server.xml."""

    def __init__(self, folder: Path, translation: Translation, environment: dict[str, str]) -> None:
        super().__init__(folder, environment=environment)
        self._xml = translation.ours((RECORDED / "Server.xml").read_text())
        self.server = self  # type: ignore[assignment]

    def write(self, path: Path) -> Path:
        path.write_text(self._xml)
        return path


def _succeeds(port: int, path: str) -> bool:
    return _request(port, "GET", path, ROWS[0]["headers"])[0] == 200


def _request(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, dict[str, str], str]:
    """A connection of its own; the recording has headers that pickier clients don't send."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read().decode()


def _until(kiln: KilnProcess, condition: Any) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise kiln.failed("did not come up for the replay")


def _publish(url: str, *more: str) -> Ffmpeg:
    return Ffmpeg(["-stream_loop", "-1", "-re", "-i", str(ffmpeg.source(SMALL)), "-c", "copy", *more, "-f", "flv", url])


def _dynamic(translation: Translation) -> Ffmpeg:
    port = translation.ports[11935]
    return _publish(f"rtmp://127.0.0.1:{port}/dyn1/ds", "-rtmp_tcurl", f"rtmp://dyn.local:{port}/dyn1")


def _ask(port: int, row: dict[str, Any], translation: Translation) -> Answered:
    body = None
    if row["body"] is not None:
        text = row["body"]
        if row["n"] in _PULLS:
            text = text.replace(_OVT, f"rtmp://127.0.0.1:{translation.pulled[_PULLS[row['n']]]}")
        body = translation.ours(text).encode()
    status, headers, text = _request(port, row["method"], row["path"], row["headers"], body)
    own = {key: value for key, value in headers.items() if key not in _OWN_HEADERS}
    return Answered(status, own, translation.theirs(text))


def _certificates(folder: Path) -> None:
    folder.mkdir()
    cert, key = self_signed(["peer.local"], folder)
    for name, source in (("tls.crt", cert), ("tls.key", key), ("tls-chain.crt", cert)):
        shutil.copy(source, folder / name)


def comparable(row: dict[str, Any], body: str, without: frozenset[str] = frozenset()) -> Any:
    """What of an answer has to be equal, less the keys ``without``; the order of its keys is told by ``keys``."""
    if not body:
        return body
    value = json.loads(body)
    if row["method"] == "GET" and row["path"] == "/v1/vhosts" and isinstance(value, dict) and "response" in value:
        value["response"].sort()
    # Settings come back as they were sent: no figure of theirs is left out.
    runtime = "/streams" in row["path"] or "/stats" in row["path"] or ":" in row["path"].rpartition("/")[2]
    return _normal(value, runtime, without)


def _normal(value: Any, runtime: bool, without: frozenset[str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _normal(each, runtime, without, name) for name, each in value.items() if name not in without}
    if isinstance(value, list):
        return [_normal(each, runtime, without, key) for each in value]
    if key == "message":
        return _JSON_PLACE.sub(r"\1", value)
    if runtime and key != "statusCode" and _FIGURES.search(key):
        return type(value).__name__
    return value


def keys(value: Any) -> Any:
    """The keys of all objects, in their order."""
    if isinstance(value, dict):
        return [(name, keys(each)) for name, each in value.items()]
    if isinstance(value, list):
        return [keys(each) for each in value]
    return None
