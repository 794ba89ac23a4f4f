"""Our answers beside those that OvenMediaEngine 0.20.0 gave to the same requests with the same configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.box import RECORDED, open_box

ROWS: list[dict[str, Any]] = [json.loads(line) for line in (RECORDED / "reading.jsonl").read_text().splitlines()]

#: What differs, and why: a path in the answer, or "*" for the whole of it.
KEPT_DIFFERENCES: dict[int, dict[str, str]] = {
    398: {"providers.mpegts": "shows the ports that MPEG-TS has reserved; it is not built yet"},
}


def test_there_is_something_to_compare() -> None:
    assert len(ROWS) > 30
    assert {row["method"] for row in ROWS} >= {"GET", "HEAD", "OPTIONS", "PUT", "POST"}


@pytest.mark.parametrize("row", [row for row in ROWS if row["n"] != 126], ids=lambda row: f"{row['n']} {row['note']}")
async def test_answer_is_the_recorded_one(row: dict[str, Any], tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        for name in ("live2", "live1"):
            box.open("app", name)
        answer = await box.ask(row["method"], row["path"], row["headers"])
    assert answer.status_code == row["status"]
    compared = {key: value for key, value in answer.headers.items() if key not in ("content-length", "server", "date")}
    assert compared == row["answer_headers"]
    if row["method"] != "HEAD":
        assert int(answer.headers.get("content-length", 0)) == len(answer.content)
    differences = KEPT_DIFFERENCES.get(row["n"], {})
    if differences:
        assert _without(json.loads(answer.content), differences) == _without(json.loads(row["answer"]), differences)
        assert json.loads(answer.content) != json.loads(row["answer"]), "no longer different: take it off the table"
    else:
        assert answer.text == row["answer"]


def _without(answer: dict[str, Any], paths: dict[str, str]) -> dict[str, Any]:
    for path in paths:
        at = answer["response"]
        *above, last = path.split(".")
        for name in above:
            at = at[name]
        del at[last]
    return answer


async def test_a_stream_has_the_recorded_shape(tmp_path: Path) -> None:
    """Row 126: keys, their order and JSON types; figures are our own. Data tracks are not made yet."""
    recorded = json.loads(next(row["answer"] for row in ROWS if row["n"] == 126))["response"]
    recorded["input"]["tracks"] = recorded["input"]["tracks"][:2]
    recorded["outputs"][0]["tracks"] = recorded["outputs"][0]["tracks"][:2]
    async with open_box(tmp_path) as box:
        box.feed(*box.open("bypass", "ds"), frames=200)
        answer = await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/ds")
    ours = answer.json()["response"]
    assert json.dumps(_shape(ours)) == json.dumps(_shape(recorded))
    for path in ("input.sourceType", "input.sourceUrl", "input.tracks.0.video.codec", "outputs.0.playlists",
                 "input.tracks.0.video.bypass", "outputs.0.tracks.0.video.bypass", "input.tracks.0.name",
                 "outputs.0.tracks.1.name", "input.tracks.1.audio.channel"):  # fmt: skip
        assert _at(ours, path) == _at(recorded, path), path


def _shape(value: Any) -> Any:
    """Types instead of figures; the order of keys stays."""
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return type(value).__name__


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value[int(step)] if step.isdigit() else value[step]
    return value
