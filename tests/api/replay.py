"""The recorded requests to OvenMediaEngine 0.20.0, asked of Kiln in the same order, and both answers made comparable.

$BOX in the recording stands for the folder of that server. Every second line has a request alone: it is asked for the
state that it leaves.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.net.tls import self_signed
from tests.api.box import RECORDED, Box, open_box

ROWS: list[dict[str, Any]] = [json.loads(line) for line in (RECORDED / "answers.jsonl").read_text().splitlines()]

#: Figures that no two runs share: compared by their type.
_FIGURES = re.compile(
    r"(?i)time|bytes|bitrate|framerate|interval|createdTime|^id$|address|latest|avg|delta|throughput|size|count$|"
    r"^sourceUrl$|hasBframes|connections|lastRecv|lastSent|max"
)
_JSON_PLACE = re.compile(r"(\[HTTP\] \[JSON\] \* Line \d+, Column \d+).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answered:
    """``headers`` are the answer's own, without those that each server has its own way with."""

    status: int
    headers: dict[str, str]
    body: str


async def replay(state: Path) -> dict[int, Answered]:
    """Our answers by line number, with the streams that were live while it was recorded."""
    folder = str(state)
    xml = state / "Server.xml"
    xml.write_text((RECORDED / "Server.xml").read_text().replace("$BOX", folder))
    _certificates(state / "conf")
    answers = {}
    async with open_box(state, xml) as box:
        for name in ("live2", "live1"):
            box.feed(*box.open("app", name), frames=200)
        for row in ROWS:
            if row["n"] == 125:
                box.feed(*box.open("dyn1", "ds", "dyn"), frames=200)
            answers[row["n"]] = await _ask(box, row, folder)
    return answers


async def _ask(box: Box, row: dict[str, Any], folder: str) -> Answered:
    body = row["body"].replace("$BOX", folder).encode() if row["body"] is not None else None
    answer = await box.ask(row["method"], row["path"], row["headers"], body=body)
    own = ("content-length", "server", "date", "connection")
    headers = {key: value for key, value in answer.headers.items() if key not in own}
    return Answered(answer.status_code, headers, answer.text.replace(folder, "$BOX"))


def _certificates(folder: Path) -> None:
    folder.mkdir()
    cert, key = self_signed(["peer.local"], folder)
    for name, source in (("tls.crt", cert), ("tls.key", key), ("tls-chain.crt", cert)):
        shutil.copy(source, folder / name)


def comparable(row: dict[str, Any], body: str) -> Any:
    """What of an answer has to be equal; the order of its keys is told by ``keys``."""
    if not body:
        return body
    value = json.loads(body)
    if row["method"] == "GET" and row["path"] == "/v1/vhosts" and isinstance(value, dict) and "response" in value:
        value["response"].sort()
    # Settings come back as they were sent: no figure of theirs is left out.
    runtime = "/streams" in row["path"] or "/stats" in row["path"] or ":" in row["path"].rpartition("/")[2]
    return _normal(value, runtime)


def _normal(value: Any, runtime: bool, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _normal(each, runtime, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_normal(each, runtime, key) for each in value]
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
