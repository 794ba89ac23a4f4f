"""The rules against a live packager: its ASGI app, synthetic media, virtual time."""

from __future__ import annotations

import re
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from appliance.media.contracts import Playlist, Rendition
from appliance.media.events import Subtitle, event_packet
from appliance.media.track import Track
from appliance.net.asgi import Message, Receive, Scope, Send
from appliance.publishers.llhls.delivery import Delivery
from appliance.publishers.llhls.publisher import LlhlsPublisher
from appliance.settings.models import MediaOptions, OutputProfiles, SubtitleRendition, Subtitles
from tests.conformance.llhls.observe import Observation, Player, observe
from tests.conformance.llhls.rules import RULES, Stage
from tests.publishers.llhls.kit import AVCC, Feed, Station, audio_track, play, station, video_track

MASTER = "http://box/app/cam/master.m3u8"


class Studio:
    """A live source whose hands are ours."""

    def __init__(self, box: Station, tracks: list[Track], playlists: list[Playlist], **feed: object) -> None:
        self.box = box
        self.feed = Feed(tracks, **feed)  # type: ignore[arg-type]
        self.playlists = playlists
        self.stream = box.start(tracks, playlists=playlists)
        self.frozen = trio.Event()
        self.frozen.set()

    async def run(self) -> None:
        said = 0
        while True:
            await self.frozen.wait()
            await play(self.stream, self.feed, 0.2)
            # Nobody sees it where there are no subtitles.
            said += 200
            self.stream.inject(event_packet(Subtitle("English", "Hello", said + 500, 700), said + 500))

    async def freeze(self) -> None:
        self.frozen = trio.Event()

    async def thaw(self) -> None:
        self.frozen.set()
        await trio.sleep(3)

    async def change(self) -> None:
        tracks = list(self.feed.tracks)
        tracks[0] = video_track(tracks[0].id, generation=1, codec_config=AVCC[:-1] + b"\x30", variant=tracks[0].variant)
        self.feed.tracks = tracks

    async def step_clock(self, seconds: float) -> None:
        self.box.wall.ahead += int(seconds * 1e9)

    async def restart(self) -> None:
        """Another engine on the same store."""
        await self.freeze()
        publisher = LlhlsPublisher(self.box.context)
        self.box.publisher.app = publisher.app
        self.box.publisher = publisher
        self.box.client._transport.app = publisher.app  # type: ignore[attr-defined]
        self.feed = Feed(self.feed.tracks)
        self.stream = self.box.start(self.feed.tracks, playlists=self.playlists)
        await self.thaw()

    def stage(self, player: Player) -> Stage:
        return Stage(player, 0.02, self.freeze, self.thaw, self.change, self.step_clock, self.restart)


KINDS = {
    "video and audio": ([video_track(), audio_track()], {}, []),
    "durations known": ([video_track(), audio_track()], {"known_durations": True}, []),
    "with subtitles": ([video_track(), audio_track()], {}, []),
    "audio alone": ([audio_track()], {}, []),
    "video alone": ([video_track()], {"gop": 45}, []),
    "three renditions": (
        [video_track(0, variant="hd"), video_track(1, variant="sd"), video_track(2, variant="ld"), audio_track(3)],
        {"gop": 60},
        [Playlist("abr", "master", [Rendition(name, name, "audio") for name in ("hd", "sd", "ld")])],
    ),
}


SUBTITLES = Subtitles(
    enable=True, default_label="English", renditions=(SubtitleRendition(label="English", language="en"),)
)  # fmt: skip
#: These have subtitles beside their tracks.
SUBTITLED = ("with subtitles",)


@asynccontextmanager
async def on_air(kind: str, seconds: float) -> AsyncIterator[tuple[Observation, Studio, Player]]:
    tracks, feed, playlists = KINDS[kind]
    async with station(segment_count=8) as box:
        if kind in SUBTITLED:
            options = OutputProfiles(media_options=MediaOptions(subtitles=SUBTITLES))
            box.application = msgspec.structs.replace(box.application, output_profiles=options)
        studio = Studio(box, tracks, playlists, **feed)  # type: ignore[arg-type]
        box.nursery.start_soon(studio.run)
        await trio.sleep(5)
        yield await observe(MASTER, box.client, seconds), studio, Player(box.client)


PROVOKED = (11, 18, 20, 21)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_rule_is_kept(kind: str, autojump_clock: object) -> None:
    async with on_air(kind, 24.0) as (seen, studio, player):
        assert len(seen.renditions) == len(studio.feed.tracks) + (kind in SUBTITLED)
        assert [one.text for one in seen.renditions].count(True) == (kind in SUBTITLED)
        assert all(len(rendition.parts) > 40 for rendition in seen.renditions)
        found = {number: await rule(seen, Stage(player, 0.02)) for number, rule in RULES.items()}
        assert found == {number: [] for number in range(1, 26)}


@pytest.mark.parametrize("kind", ["video and audio", "three renditions", "with subtitles"])
@pytest.mark.parametrize("number", PROVOKED)
async def test_a_rule_is_kept_when_provoked(number: int, kind: str, autojump_clock: object) -> None:
    async with on_air(kind, 8.0) as (seen, studio, player):
        assert await RULES[number](seen, studio.stage(player)) == []


def _text(old: str, new: str) -> Callable[[int, str, bytes], tuple[int, bytes]]:
    """Every playlist reads otherwise."""

    def tamper(status: int, path: str, body: bytes) -> tuple[int, bytes]:
        if path.endswith(".m3u8") and status == 200 and body.startswith(b"#EXTM3U"):
            body = re.sub(old, new, body.decode()).encode()
        return status, body

    return tamper


def _status(old: int, new: int) -> Callable[[int, str, bytes], tuple[int, bytes]]:
    def tamper(status: int, path: str, body: bytes) -> tuple[int, bytes]:
        return (new if status == old else status), body

    return tamper


def _media(status: int, path: str, body: bytes) -> tuple[int, bytes]:
    """The media of a part twice as long as it says."""
    if "/part_0" in path:
        body = body.replace(struct.pack(">II", 3000, 2004), struct.pack(">II", 6000, 2004))
    return status, body


BREAKS: list[tuple[int, Callable[[int, str, bytes], tuple[int, bytes]]]] = [
    (1, _text("CAN-BLOCK-RELOAD=YES,", "")),
    (2, _text("PART-HOLD-BACK=[0-9.]+", "PART-HOLD-BACK=1.2")),
    (3, _text(",HOLD-BACK=[0-9.]+", ",HOLD-BACK=3.0")),
    (3, _text("CAN-SKIP-UNTIL=[0-9.]+", "CAN-SKIP-UNTIL=4.0")),
    (4, _text("PART-TARGET=[0-9.]+", "PART-TARGET=0.45")),
    (4, _text("PART-TARGET=[0-9.]+", "PART-TARGET=0.8")),
    (5, _text("TARGETDURATION:2", "TARGETDURATION:1")),
    (6, _text("PART-TARGET=[0-9.]+", "PART-TARGET=0.2")),
    (10, _status(400, 200)),
    (9, _status(400, 404)),
    (13, _text("#EXT-X-SKIP:SKIPPED-SEGMENTS=([0-9]+)", r"#EXT-X-SKIP:SKIPPED-SEGMENTS=9\1")),
    (14, _text("#EXT-X-PRELOAD-HINT:(.*)", r"#EXT-X-PRELOAD-HINT:\1\n#EXT-X-PRELOAD-HINT:\1")),
    (15, _status(404, 200)),
    (16, _text("#EXT-X-RENDITION-REPORT.*\n", "")),
    (16, _text("LAST-PART=[0-9]+", "LAST-PART=7")),
    (20, _text("(SEQUENCE:[0-9]+)", r"\1\n#EXT-X-DISCONTINUITY-SEQUENCE:%(kind)s")),
    (21, _text("#EXT-X-PROGRAM-DATE-TIME:[^\n]*\n", "")),
    (21, _text(":([0-9]{2}\\.[0-9]{3})Z", r":00.000Z")),
    (23, _text("#EXT-X-INDEPENDENT-SEGMENTS\n", "")),
    (23, _text(",INDEPENDENT=YES", "")),
    (24, _text("BANDWIDTH=[0-9]+", "BANDWIDTH=1000")),
]


@pytest.mark.parametrize(("number", "tamper"), BREAKS)
async def test_a_rule_sees_what_breaks_it(
    number: int, tamper: Callable[[int, str, bytes], tuple[int, bytes]], autojump_clock: object
) -> None:
    async with on_air("video and audio", 0.0) as (_, studio, player):
        player.http._transport.app = Tampering(studio.box.publisher.app, tamper)  # type: ignore[attr-defined]
        seen = await observe(MASTER, player.http, 8.0)
        assert await RULES[number](seen, Stage(player, 0.02)) != []


async def test_the_part_rule_looks_at_the_media(autojump_clock: object) -> None:
    async with on_air("durations known", 0.0) as (_, studio, player):
        player.http._transport.app = Tampering(studio.box.publisher.app, _media)  # type: ignore[attr-defined]
        seen = await observe(MASTER, player.http, 4.0)
        assert any("its tag says" in fault for fault in await RULES[4](seen, Stage(player)))


class Tampering:
    """An ASGI application whose answers somebody changes."""

    def __init__(self, app: Delivery, change: Callable[[int, str, bytes], tuple[int, bytes]]) -> None:
        self.app = app
        self.change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        status, body = self.change(messages[0]["status"], scope["path"], body)
        body = body.replace(b"%(kind)s", b"1" if "_audio_" in scope["path"] else b"2")
        headers = [item for item in messages[0]["headers"] if item[0] != b"content-length"]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def test_no_rule_is_left_out() -> None:
    assert list(RULES) == list(range(1, 26))
