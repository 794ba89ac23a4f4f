from __future__ import annotations

import gzip
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.contracts import OutputStream, Playlist, Rendition, Source
from appliance.media.stream import Stream
from appliance.media.track import Codec, Track
from appliance.net.parking import ParkingLot
from appliance.settings.models import CacheControl, CrossDomains, DefaultQueryString, Header, Query
from tests.conformance.llhls.playlist import parse_master, parse_media
from tests.publishers.llhls.kit import Feed, Station, audio_track, play, station, video_track

AV = [video_track(), audio_track()]


@asynccontextmanager
async def on_air(
    seconds: float = 6.0, tracks: list[Track] | None = None, playlists: list[Playlist] | None = None, **llhls: object
) -> AsyncIterator[tuple[Station, Stream]]:
    """A stream that has been on the air for so long and goes on."""
    async with station(**llhls) as box:
        stream = box.start(tracks or AV, playlists=playlists or [])
        box.nursery.start_soon(play, stream, Feed(tracks or AV, gop=30), 3600.0)
        await trio.sleep(seconds)
        yield box, stream


def window(box: Station, track: int = 0) -> str:
    return box.live().windows[track].playlist_name


# What is where.


async def test_the_first_playable_answer(autojump_clock: object) -> None:
    """At most one group of pictures and one part after the start; asked for earlier, it is held."""
    async with station() as box:
        stream = box.start(AV)
        box.nursery.start_soon(play, stream, Feed(AV, gop=30), 60.0)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        answer = await box.get("llhls.m3u8")
        assert answer.status_code == 200
        assert trio.current_time() - began <= 1.0 + 0.5
        master = parse_master("http://box/app/cam/llhls.m3u8", answer.text)
        for url in master.renditions:
            media = parse_media(url, (await box.get(url)).text)
            assert media.segments[0].parts
            assert (await box.get(media.segments[0].parts[0].uri)).status_code == 200
        assert trio.current_time() - began <= 1.0 + 0.5


async def test_a_stream_that_nobody_has_is_404_at_once(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        began = trio.current_time()
        for path in ("../nope/llhls.m3u8", "/nope/cam/llhls.m3u8", "/x", "/", "/app/cam/", "nope.m3u8", "seg.m4s"):
            answer = await box.get(path)
            assert answer.status_code == 404
            assert answer.text
        box.directory.hosts = {"other.example": "default"}
        await trio.sleep(1.1)
        assert (await box.get("llhls.m3u8")).status_code == 404
        assert trio.current_time() - began < 1.2


async def test_a_stream_that_gives_nothing_is_503_after_a_while(autojump_clock: object) -> None:
    async with station() as box:
        box.start(AV)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        answer = await box.get("llhls.m3u8")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert 10 <= trio.current_time() - began <= 20


async def test_a_stream_on_its_way_is_waited_for(autojump_clock: object) -> None:
    async with station() as box:
        stream = Stream("default/app/cam", AV, clock=box.context.clock)
        box.directory.outputs["cam"] = stream

        async def later() -> None:
            await trio.sleep(0.5)
            box.nursery.start_soon(play, box.start(AV), Feed(AV), 10.0)

        box.nursery.start_soon(later)
        assert (await box.get("llhls.m3u8")).status_code == 200
        del box.directory.outputs["cam"]
        box.directory.outputs["never"] = stream
        assert (await box.get("../never/llhls.m3u8")).status_code == 503


async def test_a_source_that_ends_before_it_began(autojump_clock: object) -> None:
    async with station() as box:
        stream = box.start(AV)
        await trio.testing.wait_all_tasks_blocked()

        async def close() -> None:
            await trio.sleep(1)
            stream.close()

        box.nursery.start_soon(close)
        assert (await box.get("llhls.m3u8")).status_code == 404


async def test_default_playlists_and_their_paths(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        answers = [(await box.get(name)).text for name in ("llhls.m3u8", "master.m3u8")]
        assert answers[0] == answers[1]
        assert f"\n/app/cam/{window(box)}\n" in answers[0]
    for depth, prefix in ((0, ""), (1, "../cam/"), (2, "../../app/cam/")):
        own = Playlist("mine", "own", [Rendition("r", "video", "audio")], hls_chunklist_path_depth=depth)
        async with on_air(playlists=[own], create_default_playlist=False) as (box, _):
            assert f"\n{prefix}{window(box)}\n" in (await box.get("own.m3u8")).text
            assert (await box.get("llhls.m3u8")).status_code == 404


async def test_a_master_tells_what_there_is(autojump_clock: object) -> None:
    tracks = [
        video_track(0, variant="hd", bitrate=5_000_000),
        video_track(1, variant="sd", width=640, height=360),
        audio_track(2, variant="aac", public_name="Deutsch", language="de"),
        audio_track(3, variant="aac", public_name="English", language="en", characteristics="public.easy-to-read"),
        audio_track(4, variant="opus", codec=Codec.OPUS, codec_config=b""),
        video_track(5, variant="unused"),
    ]
    wanted = [("hd", "hd", "aac"), ("sd", "sd", "aac"), ("a", "", "opus"), ("x", "nope", "")]
    own = Playlist("abr", "abr", [Rendition(*each) for each in wanted])
    async with on_air(12.0, tracks, [own], create_default_playlist=False) as (box, _):
        master = parse_master("http://box/app/cam/abr.m3u8", (await box.get("abr.m3u8")).text)
        assert [found.get("RESOLUTION") for _, found in master.variants] == ["1280x720", "640x360", None]
        assert [found.get("CODECS") for _, found in master.variants] == ["avc1.64001e,mp4a.40.2"] * 2 + ["opus"]
        assert [found.get("FRAME-RATE") for _, found in master.variants] == ["30.000", "30.000", None]
        assert [found.get("AUDIO") for _, found in master.variants] == ["aac", "aac", None]
        assert int(master.variants[0][1]["BANDWIDTH"]) >= 5_000_000
        assert 400_000 < int(master.variants[0][1]["AVERAGE-BANDWIDTH"]) < 700_000
        assert [(found["NAME"], found["LANGUAGE"], found["DEFAULT"]) for _, found in master.media] == [
            ("Deutsch", "de", "YES"),
            ("English", "en", "NO"),
        ]
        # What no rendition plays is not packaged.
        assert sorted(box.live().windows) == [0, 1, 2, 3, 4]


# Sessions, keys, queries.


async def test_sessions_are_taken_and_never_asked_for(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        for path in (f"~a1b2/{window(box)}", f"{window(box)}?session=7_abc", window(box)):
            assert (await box.get(path)).status_code == 200
        assert "\n/app/cam/~a1b2/chunklist_0" in (await box.get("~a1b2/llhls.m3u8")).text
        assert box.publisher.viewers("default", "app", "cam") == 3
        await trio.sleep(7)
        assert box.publisher.viewers("default", "app", "cam") == 0
        assert box.publisher.viewers("default", "app", "nope") == 0


async def test_queries_are_passed_through(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        query = "_HLS_legacy=YES&stream_key=a%20b%22%0a"
        master = await box.get(f"llhls.m3u8?{query}")
        url = parse_master("http://box/app/cam/llhls.m3u8", master.text).variants[0][0]
        assert url.endswith("?_HLS_legacy=YES&stream_key=a%20b%22%0A")
        text = (await box.get(url)).text
        media = parse_media(url, text)
        assert media.segments
        assert all(one.uri.endswith("?stream_key=a%20b%22%0A") for one in media.complete)
        assert "#EXT-X-PART" not in text
        assert "SERVER-CONTROL" not in text
        assert "RENDITION-REPORT" not in text
        assert (await box.get(media.segments[0].uri)).status_code == 200
        full = parse_media(url, (await box.get(f"{window(box)}?stream_key=k")).text)
        assert full.hint.endswith("?stream_key=k")
        assert all(report["URI"].endswith("?stream_key=k") for report in full.reports)


async def test_defaults_of_the_query_come_from_the_settings(autojump_clock: object) -> None:
    wanted = DefaultQueryString(queries=(Query(key="_HLS_legacy", value="YES"),))
    async with on_air(default_query_string=wanted) as (box, _):
        assert "#EXT-X-PART" not in (await box.get(window(box))).text
        assert "#EXT-X-PART" in (await box.get(window(box) + "?_HLS_legacy=NO")).text
        assert "_HLS_legacy=NO" in (await box.get("llhls.m3u8?_HLS_legacy=NO")).text
        assert "_HLS_legacy" not in (await box.get("llhls.m3u8")).text


async def test_a_legacy_playlist_waits_for_its_first_segment(autojump_clock: object) -> None:
    async with on_air(1.5) as (box, _):
        media = parse_media("http://box/x", (await box.get(window(box) + "?_HLS_legacy=YES")).text)
        assert len(media.complete) == 1


@pytest.mark.parametrize(
    "query",
    ["_HLS_part=1", "_HLS_msn=-1", "_HLS_msn=x", "_HLS_msn=", "_HLS_msn=1&_HLS_part=1.5", "_HLS_msn=" + "9" * 40],
)
async def test_impossible_directives_are_400(query: str, autojump_clock: object) -> None:
    async with on_air() as (box, _):
        answer = await box.get(f"{window(box)}?{query}")
        assert answer.status_code == 400
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_chunklist_of_an_earlier_life_goes_on(autojump_clock: object) -> None:
    """The key in it is not looked at: a player outlives a restart of its stream. Its media stay a while."""
    async with on_air() as (box, stream):
        name = window(box)
        old = box.live().windows[0]
        old_part = next(name for name in box.live().files if name.startswith("part_0"))
        edge = parse_media("http://box/x", (await box.get(name)).text)
        waiting: list[Any] = []

        async def wait() -> None:
            msn, _ = edge.next
            waiting.append(await box.get(f"{name}?_HLS_msn={msn + 1}&_HLS_part=0"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.1)
            again = box.start(AV)
            box.nursery.start_soon(play, again, Feed(AV), 60.0)
        stream.close()
        now = parse_media("http://box/x", waiting[0].text)
        assert waiting[0].status_code == 200
        assert now.media_sequence == old.last_msn + 1
        assert now.discontinuity_sequence == edge.discontinuity_sequence + 1
        assert box.live().windows[0].playlist_name != name
        assert (await box.get(old_part)).status_code == 200
        assert (await box.get(old_part.replace("part_0_", "part_9_"))).status_code == 404


async def test_a_restart_within_the_grace_loses_no_viewer(autojump_clock: object) -> None:
    """The source dies and is back half a second later: no ENDLIST, no hole in the numbers, no file lost."""
    async with on_air() as (box, stream):
        name = window(box)
        before = parse_media("http://box/app/cam/x", (await box.get(name)).text)
        answers: list[Any] = []

        async def wait(query: str) -> None:
            answers.append(await box.get(f"{name}{query}"))

        stream.close()
        await trio.testing.wait_all_tasks_blocked()
        gap = parse_media("http://box/app/cam/x", (await box.get(name)).text)
        assert not gap.ended
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, f"?_HLS_msn={gap.last[0] + 1}&_HLS_part=0")
            nursery.start_soon(wait, f"?_HLS_msn={gap.last[0] + 1}")
            await trio.sleep(0.5)
            assert answers == []
            again = box.start(AV)
            box.nursery.start_soon(play, again, Feed(AV), 60.0)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait, "")
        for answer in answers:
            after = parse_media("http://box/app/cam/x", answer.text)
            assert (answer.status_code, after.ended) == (200, False)
            assert after.media_sequence == gap.last[0] + 1
            assert after.discontinuity_sequence == gap.discontinuity_sequence + 1
            assert (after.segments[0].date_time or 0) >= (gap.segments[-1].date_time or 0) + gap.segments[-1].duration
        for segment in before.complete + gap.complete:
            assert (await box.get(segment.uri)).status_code == 200
            assert (await box.get(segment.map)).status_code == 200
            for part in segment.parts:
                assert (await box.get(part.uri)).status_code == 200
        await trio.sleep(30)
        assert (await box.get(gap.complete[-1].uri)).status_code == 404
        assert parse_media("http://box/app/cam/x", (await box.get(name)).text).media_sequence > after.media_sequence


async def test_a_source_that_comes_and_goes_keeps_little(autojump_clock: object) -> None:
    """Lives that never got far enough for a playlist: requests wait through them, and what is kept is bounded."""
    async with on_air() as (box, stream):
        name = window(box)
        answers: list[int] = []

        async def ask() -> None:
            answers.append((await box.get(name)).status_code)

        stream.close()
        lives = [box.live()]
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                stream = box.start(AV)
                await trio.testing.wait_all_tasks_blocked()
                if not answers:
                    nursery.start_soon(ask)
                await play(stream, Feed(AV), 0.4)
                stream.close()
                lives.append(box.live())
                await trio.sleep(0.3)
                assert sum(1 for live in lives if live.files) <= 9
        assert set(answers) <= {200, 503}
        await trio.sleep(60)
        assert not any(live.files for live in lives)


async def test_a_box_that_stops_says_so(autojump_clock: object) -> None:
    """Whoever is held when the publisher is stopped gets 503: the stream is not gone for good."""
    async with on_air() as (box, _), trio.open_nursery() as nursery:
        stream = Stream("default/app/other", AV, clock=box.context.clock)
        output = OutputStream("default", "app", "other", stream, box.application, [], Source("Test"))
        silent = OutputStream("default", "app", "silent", Stream("default/app/silent", AV), box.application, [],
                              Source("Test"))  # fmt: skip
        stopped = await nursery.start(_run_in_scope, box, [output, silent])
        nursery.start_soon(play, stream, Feed(AV), 6.0)
        await trio.sleep(6)
        live = box.live("other")
        track = live.windows[0]
        answers: list[Any] = []

        async def ask(path: str) -> None:
            answers.append(await box.get(path))

        async with trio.open_nursery() as asking:
            asking.start_soon(ask, f"../other/{track.playlist_name}?_HLS_msn={track.last_msn + 1}")
            asking.start_soon(ask, f"../other/{track.part_name(track.next_msn, track.next_part)}")
            asking.start_soon(ask, "../silent/llhls.m3u8")
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            stopped.cancel()
        assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [(503, "1")] * 3


async def _run_in_scope(
    box: Station, outputs: list[OutputStream], task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    async with trio.open_nursery() as nursery:
        for output in outputs:
            nursery.start_soon(box.publisher.run, output, lambda: None)
        task_status.started(nursery.cancel_scope)


# Media.


async def test_segments_are_their_parts(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        media = parse_media("http://box/app/cam/x", (await box.get(window(box))).text)
        segment = media.complete[-1]
        whole = await box.get(segment.uri)
        parts = [await box.get(part.uri) for part in segment.parts]
        assert whole.content == b"".join(part.content for part in parts)
        assert int(whole.headers["content-length"]) == len(whole.content)
        assert whole.headers["content-type"] == "video/mp4"
        assert (await box.get(segment.map)).headers["content-type"] == "video/mp4"
        head = await box.client.head(segment.uri)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]
        sound = parse_media("http://box/app/cam/x", (await box.get(window(box, 1))).text)
        assert (await box.get(sound.complete[-1].uri)).headers["content-type"] == "audio/mp4"


async def test_a_segment_goes_out_as_buffers_where_the_server_can(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        segment = box.live().windows[0].listed[-1]
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nothing is read")

        scope = {
            "type": "http", "method": "GET", "path": f"/app/cam/{segment.name}", "query_string": b"",
            "headers": [(b"host", b"box")], "extensions": {"kiln.buffers": {}},
        }  # fmt: skip
        await box.publisher.app(scope, receive, send)
        assert sent[1]["buffers"] == [part.payload for part in segment.parts]
        assert all(mine is its.payload for mine, its in zip(sent[1]["buffers"], segment.parts, strict=True))


async def test_waiting_is_the_servers_business_where_it_offers_that(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        asked: list[tuple[ParkingLot, float]] = []

        async def park(lot: ParkingLot, deadline: float) -> bool:
            asked.append((lot, deadline))
            return False

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nothing is read")

        live = box.live()
        msn, part = live.windows[0].next_msn, live.windows[0].next_part
        for path, query in (
            (window(box), b"_HLS_msn=%d&_HLS_part=%d" % (msn, part)),
            (live.windows[0].part_name(msn, part), b""),
        ):
            scope = {
                "type": "http", "method": "GET", "path": f"/app/cam/{path}", "query_string": query,
                "headers": [(b"host", b"box")], "extensions": {"kiln.park": park},
            }  # fmt: skip
            await box.publisher.app(scope, receive, send)
        assert asked == [(live.lots[0], trio.current_time() + 3 * live.target_duration)] * 2
        assert [message["status"] for message in sent if "status" in message] == [503, 503]


async def test_without_hints_nothing_is_hinted_or_held(autojump_clock: object) -> None:
    async with on_air(enable_preload_hint=False) as (box, _):
        assert "PRELOAD-HINT" not in (await box.get(window(box))).text
        live = box.live().windows[0]
        assert (await box.get(live.part_name(live.next_msn, live.next_part))).status_code == 404


async def test_a_withdrawn_hint_is_404(autojump_clock: object) -> None:
    """The source changes its configuration: the segment ends before the hinted part begins."""
    async with station() as box:
        track = video_track()
        stream = box.start([track])
        feed = Feed([track], gop=15, known_durations=True)
        await play(stream, feed, 5.5)
        await trio.testing.wait_all_tasks_blocked()
        live = box.live().windows[0]
        msn, part = live.next_msn, live.next_part
        hinted = live.part_name(msn, part)
        assert part == 3
        assert hinted in (await box.get(window(box))).text
        answers: list[int] = []

        async def ask() -> None:
            answers.append((await box.get(hinted)).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            feed.tracks = [video_track(generation=1, width=640)]
            nursery.start_soon(play, stream, feed, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [404]
        assert (live.last_msn, live.last_part) == (msn + 1, 1)


# Headers.


async def test_gzip_is_given_to_those_who_take_it(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        async with box.client.stream("GET", window(box), headers={"accept-encoding": "br, gzip"}) as packed:
            raw = b"".join([chunk async for chunk in packed.aiter_raw()])
        plain = await box.get(window(box), **{"accept-encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in packed.headers["vary"]
        assert gzip.decompress(raw) == plain.content
        assert "content-encoding" not in plain.headers
        assert len(raw) < len(plain.content) / 2


async def test_a_playlist_is_made_once_a_change(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        live = box.live()
        first = live.rendered.media(live.windows[0])
        assert live.rendered.media(live.windows[0]) is first
        assert live.rendered.media(live.windows[0]).gzip is first.gzip
        await trio.sleep(0.5)
        assert live.rendered.media(live.windows[0]) is not first


async def test_cache_control_is_as_set(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        part = next(name for name in box.live().files if name.startswith("part_0"))
        said = {
            name: (await box.get(name)).headers.get("cache-control")
            for name in ("llhls.m3u8", window(box), window(box) + "?_HLS_msn=1&_HLS_part=0", part, "nope.m3u8")
        }
        never = "no-cache, no-store"
        assert list(said.values()) == [never, never, "max-age=60", "max-age=12", "max-age=1"]
    wanted = CacheControl(
        master_playlist_max_age=5, chunklist_max_age=-1, chunklist_with_directives_max_age=0, segment_max_age=99,
        partial_segment_max_age=0,
    )  # fmt: skip
    async with on_air(cache_control=wanted) as (box, _):
        live = box.live().windows[0]
        segment = live.listed[-1]
        names = ["llhls.m3u8", window(box), window(box) + "?_HLS_msn=0", segment.name, segment.parts[0].name]
        said = {name: (await box.get(name)).headers.get("cache-control") for name in names}
        assert list(said.values()) == ["max-age=5", None, "no-cache, no-store", "max-age=99", "no-cache, no-store"]


async def test_cors(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        for path in ("llhls.m3u8", "nope.m3u8", "../nope/x.m3u8"):
            assert (await box.get(path)).headers["access-control-allow-origin"] == "*"
    domains = CrossDomains(urls=("*.example.com", "https://one.test"), headers=(Header(key="X-Own", value="1"),))
    async with on_air(cross_domains=domains) as (box, _):
        part = next(name for name in box.live().files if name.startswith("part_0"))
        allowed = {"https://a.example.com": True, "http://b.example.com": True, "https://one.test": True}
        for origin in ("http://one.test", "https://example.org", "null", "https://one.test.evil"):
            allowed[origin] = False
        for origin, granted in allowed.items():
            for path in (part, window(box), "nope.m3u8", "llhls.m3u8"):
                headers = (await box.get(path, origin=origin)).headers
                assert headers.get("access-control-allow-origin") == (origin if granted else None)
                assert "Origin" in headers["vary"]
                assert headers["x-own"] == "1"
        asked = await box.client.options(
            "llhls.m3u8", headers={"origin": "https://one.test", "access-control-request-headers": "range, x-a"}
        )
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-headers"] == "range, x-a"
        assert "GET" in asked.headers["access-control-allow-methods"]
        assert (await box.client.options("../nope/x.m3u8", headers={"origin": "https://one.test"})).status_code == 204
    async with on_air(cross_domains=CrossDomains(urls=("null",))) as (box, _):
        assert (await box.get("llhls.m3u8", origin="https://one.test")).headers["access-control-allow-origin"] == "null"
    async with on_air(cross_domains=None) as (box, _):
        headers = (await box.get("llhls.m3u8", origin="https://one.test")).headers
        assert not [name for name in headers if name.startswith("access-control")]


async def test_other_methods_are_405(autojump_clock: object) -> None:
    async with on_air() as (box, _):
        answer = await box.client.post("llhls.m3u8")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


# Reading requests.


@given(st.text(alphabet=string.ascii_letters + string.digits + "_./~-%", max_size=80), st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_is_answered(path: str, query: bytes) -> None:
    async def main() -> None:
        async with station() as box:
            stream = box.start(AV)
            await trio.testing.wait_all_tasks_blocked()
            for _, packet in Feed(AV, gop=30).packets(3):
                stream.publish(packet)
            await trio.testing.wait_all_tasks_blocked()
            statuses: list[int] = []

            async def send(message: Any) -> None:
                if "status" in message:
                    statuses.append(message["status"])

            async def receive() -> Any:
                raise AssertionError("nothing is read")

            for full in (f"/app/cam/{path}", f"/app/cam/chunklist_{path}", f"/app/cam/part_{path}", path, window(box)):
                scope = {"type": "http", "method": "GET", "path": full, "query_string": query, "headers": []}
                await box.publisher.app(scope, receive, send)
            assert set(statuses) <= {200, 400, 404}
            assert len(statuses) == 5

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
