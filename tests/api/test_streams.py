"""The figures of a stream (catalogue 3.4)."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.api.ome.stream_resource import api_time, configured_interval
from appliance.media.contracts import Source
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models
from tests.api.box import SECOND, open_box


async def test_figures_are_those_of_what_was_sent(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        box.feed(*box.open("bypass", "cam"), frames=311)
        answer = await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/cam")
    stream = answer.json()["response"]
    video = stream["input"]["tracks"][0]["video"]
    audio = stream["input"]["tracks"][1]["audio"]
    assert video["bitrateAvg"] == pytest.approx(2500 * 8 * 30, rel=0.01)
    assert video["bitrateLatest"] == pytest.approx(2500 * 8 * 30, rel=0.01)
    assert (video["bitrate"], video["bitrateConf"]) == (588_000, 588_000)
    assert audio["bitrateAvg"] == pytest.approx(240 * 8 * 48_000 / 1024, rel=0.01)
    assert (audio["samplerate"], audio["channel"]) == (48_000, 2)
    for key in ("framerate", "framerateAvg", "framerateConf", "framerateLatest"):
        assert video[key] == pytest.approx(30.0, rel=0.001), key
    for key in ("keyFrameInterval", "keyFrameIntervalAvg", "keyFrameIntervalLatest"):
        assert video[key] == 30.0, key
    assert video["deltaFramesSinceLastKeyFrame"] == 10
    assert (video["width"], video["height"], video["maxWidth"], video["maxHeight"]) == (640, 360, 640, 360)
    passed_on = stream["outputs"][0]["tracks"][0]
    assert passed_on["name"] == "v"
    assert passed_on["video"] == {**video, "bypass": True}


async def test_every_packet_shows_at_once(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        opened, video, audio = box.open("bypass", "cam")
        box.feed(opened, video, audio, frames=31)
        for frame in range(31, 36):
            opened.send(video, frame * 3000, frame * 3000, False, bytes(2500), 3000)
            for _ in range(3):
                answer = await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/cam")
                stream = answer.json()["response"]
                delta = "deltaFramesSinceLastKeyFrame"
                assert stream["input"]["tracks"][0]["video"][delta] == frame - 30
                assert stream["outputs"][0]["tracks"][0]["video"][delta] == frame - 30
        opened.close("over")
        again, _, _ = box.open("bypass", "cam")
        answer = await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/cam")
        assert answer.json()["response"]["input"]["tracks"][0]["video"]["bitrateAvg"] == 0
        again.close("over")


async def test_floats_keep_their_point(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        box.feed(*box.open("bypass", "cam"), frames=10)
        text = (await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/cam")).text
    for key in ("framerate", "framerateAvg", "framerateConf", "keyFrameInterval", "keyFrameIntervalConf"):
        assert re.search(rf'"{key}":\d+\.\d', text), key


async def test_keys_are_sorted_everywhere(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        box.feed(*box.open("bypass", "cam"), frames=10)
        answer = await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/cam")

    def walk(value: Any) -> int:
        if isinstance(value, dict):
            assert list(value) == sorted(value)
            return 1 + sum(map(walk, value.values()))
        return sum(map(walk, value)) if isinstance(value, list) else 0

    assert walk(answer.json()) > 10


async def test_no_text_is_empty(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        opened, _, _ = box.open("bypass", "cam")
        opened.close("over")
        box.engine.directory.open_input("default", "bypass", "cam", Source("Rtmp")).prepare([])
        answer = await box.ask("GET", "/v1/vhosts/default/apps/bypass/streams/cam")
    assert "sourceUrl" not in answer.json()["response"]["input"]
    assert ':""' not in answer.text


@pytest.mark.parametrize(
    ("bypass", "kind", "interval", "frames"),
    [(False, "frame", 60, 60.0), (False, "time", 2000, 50.0), (False, "Time", 1000, 25.0), (False, "frame", 0, 0.0),
     (True, "frame", 60, 0.0)],
)  # fmt: skip
def test_configured_key_frame_interval(bypass: bool, kind: str, interval: int, frames: float) -> None:
    track = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90_000, frame_rate=25.0, bypass=bypass)
    encode = models.VideoEncode(codec="h264", bitrate=1, key_frame_interval=interval, key_frame_interval_type=kind)
    assert configured_interval(track, encode) == frames
    assert configured_interval(track, None) == 0.0


@pytest.mark.parametrize("milliseconds", [0, 1, 678, 999])
def test_times_are_local_with_their_offset(milliseconds: int) -> None:
    text = api_time(1_795_000_000 * SECOND + milliseconds * 1_000_000)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", text)
    assert datetime.fromisoformat(text).timestamp() == pytest.approx(1_795_000_000 + milliseconds / 1000, abs=0.0005)
