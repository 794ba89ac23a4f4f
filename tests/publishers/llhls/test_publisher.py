from __future__ import annotations

import pytest
import trio
import trio.testing

from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.publishers.llhls.publisher import SUCCESSION_GRACE
from appliance.publishers.numbering import BLOCK, Numbering
from appliance.settings.models import DRM, DefaultQueryString, Query
from tests.conformance.llhls.playlist import parse_media
from tests.publishers.llhls.kit import AVCC, Feed, Station, audio_track, play, station, video_track
from tests.publishers.llhls.media import decoded_frames, demuxed, encoded, source_samples

AV = [video_track(), audio_track()]


@pytest.mark.parametrize("codec", [Codec.H264, Codec.H265, Codec.AV1, Codec.VP9, Codec.AAC, Codec.OPUS])
async def test_every_frame_can_be_played(codec: Codec, autojump_clock: object) -> None:
    """Init, segments, and the parts of the last: all frames with the times of the source, and they decode."""
    track, packets = encoded(codec)
    async with station(segment_duration=0.4, chunk_duration=0.1, segment_count=10) as box:
        stream = box.start([track])
        await trio.testing.wait_all_tasks_blocked()
        for packet in packets:
            stream.publish(packet)
        stream.close()
        await trio.sleep(SUCCESSION_GRACE + 0.1)
        live = box.live()
        name = live.windows[track.id].playlist_name
        media = parse_media(f"http://box/app/cam/{name}", (await box.get(name)).text)
        assert media.ended
        body = (await box.get(media.segments[0].map)).content
        for segment in media.segments:
            body += (await box.get(segment.uri)).content
        shift = live.packager.tracks[track.id].shift // track.timescale
        assert demuxed(body) == source_samples(packets, shift)
        assert shift == (1 if track.has_b_frames or packets[0].dts < 0 else 0)
        if track.is_video:
            assert decoded_frames(body) == len(packets)


async def test_what_can_be_published() -> None:
    picture = Track(id=1, media=MediaType.VIDEO, codec=Codec.JPEG, timescale=90000)
    event = Track(id=2, media=MediaType.DATA, codec=Codec.ID3, timescale=1000)
    async with station() as box:
        assert box.publisher.accepts([picture, audio_track()])
        assert not box.publisher.accepts([picture, event])
        assert box.publisher.name == "llhls"


async def test_the_end_stays_for_one_window(autojump_clock: object) -> None:
    async with station() as box:
        stream = box.start(AV)
        await play(stream, Feed(AV, gop=30), 21.0)
        name = box.live().windows[0].playlist_name
        waiting: list[str] = []

        async def wait() -> None:
            edge = parse_media("http://box/", (await box.get(name)).text).next
            waiting.append((await box.get(f"{name}?_HLS_msn={edge[0] + 1}")).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.1)
            stream.close()
            closed = trio.current_time()
        assert trio.current_time() - closed == pytest.approx(SUCCESSION_GRACE)
        media = parse_media("http://box/app/cam/x", waiting[0])
        assert media.ended
        assert media.hint == ""
        assert sum(segment.duration for segment in media.segments) >= 6
        window = sum(segment.duration for segment in media.segments)
        await trio.sleep(window - 1)
        assert (await box.get(media.segments[0].uri)).status_code == 200
        await trio.sleep(2)
        assert (await box.get(name)).status_code == 404
        assert box.publisher.live("default", "app", "cam") is None
        assert stream.readers == ()


async def test_the_wall_clock_only_moves_dates_forward(autojump_clock: object) -> None:
    async with station() as box:
        stream = box.start(AV)
        box.nursery.start_soon(play, stream, Feed(AV, gop=30), 200.0)

        async def dates() -> list[float]:
            media = parse_media("http://box/", (await box.get(box.live().windows[0].playlist_name)).text)
            return [segment.date_time or 0.0 for segment in media.segments]

        await trio.sleep(10)
        before = await dates()
        start = box.wall.start / 1e9
        assert before[-1] - start == pytest.approx(trio.current_time(), abs=3)
        box.wall.ahead = int(-3600e9)
        await trio.sleep(10)
        held = await dates()
        assert held == sorted(held)
        assert held[-1] - before[-1] == pytest.approx(10, abs=0.1)
        box.wall.ahead = int(500e6)
        await trio.sleep(10)
        assert (await dates())[-1] - held[-1] == pytest.approx(10, abs=0.1)
        box.wall.ahead = int(100e9)
        await trio.sleep(10)
        assert (await dates())[-1] - held[-1] == pytest.approx(120, abs=0.1)


async def test_numbers_go_on_after_a_restart_of_the_source(autojump_clock: object) -> None:
    async with station() as box:
        expected = 0
        for life in range(3):
            stream = box.start(AV)
            await play(stream, Feed(AV, gop=30), 6.0)
            media = parse_media("http://box/", (await box.get(box.live().windows[0].playlist_name)).text)
            assert media.media_sequence == expected
            expected = media.last[0] + 1
            assert media.discontinuity_sequence == life
            stream.close()


async def test_numbers_are_reserved_ahead_and_discontinuities_counted(autojump_clock: object) -> None:
    async with station(segment_duration=1.0) as box:
        track = video_track()
        stream = box.start([track])
        feed = Feed([track], gop=30, size=50)
        await play(stream, feed, 140.0)
        assert box.numbers.next["llhls/default/app/cam/msn"] == 2 * BLOCK
        feed.tracks = [video_track(generation=1)]
        await play(stream, feed, 300.0)
        assert box.numbers.next["llhls/default/app/cam/msn"] == 3 * BLOCK
        assert box.numbers.next["llhls/default/app/cam/discontinuity"] == 2
        media = parse_media("http://box/", (await box.get(box.live().windows[0].playlist_name)).text)
        assert media.media_sequence > BLOCK
        assert media.discontinuity_sequence == 1


async def test_a_broken_store_stops_nothing(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    async with station() as box:
        box.numbers.broken = True
        stream = box.start(AV)
        await play(stream, Feed(AV, gop=30), 6.0)
        media = parse_media("http://box/", (await box.get(box.live().windows[0].playlist_name)).text)
        assert media.media_sequence == pytest.approx(1_770_000_000 / 2, abs=5)
        assert "not reserved" in caplog.text


async def test_a_store_that_hangs_holds_nothing_up(autojump_clock: object) -> None:
    async def hang(key: str, count: int) -> int:
        await trio.sleep_forever()
        raise AssertionError

    numbering = Numbering(hang, "v/a/s", fallback=lambda: 77)
    began = trio.current_time()
    await numbering.start()
    assert trio.current_time() - began <= 2
    assert [numbering.number(), numbering.number()] == [77, 78]


async def test_numbering_by_the_servers_time(autojump_clock: object) -> None:
    async with station(server_time_based_segment_numbering=True) as box:
        stream = box.start(AV)
        await play(stream, Feed(AV, gop=30), 6.0)
        assert box.live().windows[0].listed[0].msn == 1_770_000_000 // 2


async def test_origin_mode_names_are_the_same_everywhere(autojump_clock: object) -> None:
    names = []
    for _ in range(2):
        async with station(origin_mode=True) as box:
            stream = box.start(AV)
            await play(stream, Feed(AV, gop=30), 4.0)
            names.append(box.live().windows[0].playlist_name)
    assert names[0] == names[1]
    assert names[0].split("_")[3].isdigit()


async def test_an_init_name_of_origin_mode_follows_from_its_bytes(autojump_clock: object) -> None:
    """Another configuration, after a restart too, has another name; one that comes back has its old one."""
    other = AVCC[:-1] + b"\x30"

    async def inits(box: Station) -> list[str]:
        name = box.live().windows[0].playlist_name
        media = parse_media("http://box/app/cam/x", (await box.get(name)).text)
        return list(dict.fromkeys(segment.map for segment in media.segments))

    async with station(origin_mode=True, segment_count=3) as first, station(origin_mode=True) as second:
        track = video_track()
        stream = first.start([track])
        feed = Feed([track], gop=30)
        await play(stream, feed, 4.0)
        (name,) = await inits(first)
        assert len(name.rpartition("/")[2].split("_")) == 6
        feed.tracks = [video_track(generation=1, codec_config=other)]
        await play(stream, feed, 4.0)
        changed = (await inits(first))[-1]
        assert changed != name
        assert (await first.get(changed)).content != (await first.get(name)).content
        feed.tracks = [video_track(generation=2)]
        await play(stream, feed, 8.0)
        feed.tracks = [video_track(generation=3)]
        await play(stream, feed, 30.0)
        assert (await inits(first))[-1] == name
        assert (await first.get(name)).status_code == 200
        restarted = [video_track(codec_config=other)]
        await play(second.start(restarted), Feed(restarted, gop=30), 4.0)
        assert await inits(second) == [changed]


async def test_media_is_cached_for_as_long_as_its_target_says(autojump_clock: object) -> None:
    async with station() as box:
        track = video_track()
        await play(box.start([track]), Feed([track], gop=150), 12.0)
        media = parse_media("http://box/app/cam/x", (await box.get(box.live().windows[0].playlist_name)).text)
        assert media.target_duration == 5
        assert (await box.get(media.complete[0].uri)).headers["cache-control"] == "max-age=30"


async def test_a_late_track_with_longer_parts_holds_all_back(autojump_clock: object) -> None:
    """PART-HOLD-BACK is one value in all renditions at any time."""
    async with station() as box:
        video, slow = video_track(), audio_track()
        stream = box.start([video, slow])
        box.nursery.start_soon(play, stream, Feed([video], gop=30), 60.0)
        await trio.sleep(14)
        box.nursery.start_soon(play, stream, Feed([slow], frames_per_audio=48000, frame={1: 14}), 40.0)
        seen = set()
        for _ in range(20):
            await trio.sleep(0.5)
            live = box.live()
            told = set()
            for one in live.playable():
                media = parse_media("http://box/x", (await box.get(one.playlist_name)).text)
                told.add(media.server_control["PART-HOLD-BACK"])
                assert float(media.server_control["PART-HOLD-BACK"]) >= 3 * media.part_target - 1e-6
            assert len(told) == 1
            seen |= told
        assert len(live.playable()) == 2
        assert len(seen) == 2


async def test_dates_never_go_back_under_a_name(autojump_clock: object) -> None:
    """The clock is set back while the source is away."""
    async with station() as box:
        last = 0.0
        for away in (1.0, 30.0):
            stream = box.start(AV)
            await play(stream, Feed(AV, gop=30), 6.0)
            media = parse_media("http://box/", (await box.get(box.live().windows[0].playlist_name)).text)
            assert (media.segments[0].date_time or 0.0) > last
            last = media.segments[-1].date_time or 0.0
            stream.close()
            box.wall.ahead -= int(3600e9)
            await trio.sleep(away)


async def test_the_store_learns_numbers_that_the_clock_gave(autojump_clock: object) -> None:
    async with station() as box:
        box.numbers.broken = True
        stream = box.start(AV)
        feed = Feed(AV, gop=30)
        await play(stream, feed, 6.0)
        box.numbers.broken = False
        await play(stream, feed, 6.0)
        last = box.live().windows[0].last_msn
        assert last > 800_000_000
        assert last < box.numbers.next["llhls/default/app/cam/msn"] <= last + 2 * BLOCK


async def test_what_is_not_built_is_said(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    queries = DefaultQueryString(queries=(Query(key="_HLS_other", value="YES"), Query(key="_HLS_rewind", value="NO")))
    caplog.set_level("INFO")
    async with station(drm=DRM(enable=True), default_query_string=queries) as box:
        box.start(AV)
        await trio.testing.wait_all_tasks_blocked()
    for part in ("LLHLS/DRM", "_HLS_other", "key=_HLS_rewind", "stream=default/app/cam"):
        assert part in caplog.text


async def test_a_configured_hold_back_counts_when_it_is_longer(autojump_clock: object) -> None:
    for configured, told in ((0.0, 1.5), (1.0, 1.5), (2.5, 2.5)):
        async with station(part_hold_back=configured) as box:
            stream = box.start(AV)
            await play(stream, Feed(AV, gop=30), 4.0)
            media = parse_media("http://box/", (await box.get(box.live().windows[0].playlist_name)).text)
            assert float(media.server_control["PART-HOLD-BACK"]) == told


async def test_memory_is_what_is_retained(autojump_clock: object) -> None:
    """Two windows and what is open, however long it runs; a segment is no second copy."""
    async with station() as box:
        stream = box.start(AV)
        feed = Feed(AV, gop=30, size=1000)
        await play(stream, feed, 40.0)
        live = box.live()
        before = live.retained, len(live.files)
        await play(stream, feed, 60.0)
        assert live.retained == pytest.approx(before[0], rel=0.1)
        assert len(live.files) == pytest.approx(before[1], abs=12)
        assert live.retained <= 28 * (30 * 1100 + 48 * 250)
        stream.close()
        await trio.sleep(60)
        assert live.files == {}


async def test_packets_without_a_configuration_are_left_out(autojump_clock: object) -> None:
    video, audio = video_track(), audio_track(codec_config=b"")
    async with station() as box:
        stream = box.start([video, audio])
        await play(stream, Feed([video, audio], gop=30), 8.0)
        assert (await box.get("llhls.m3u8")).status_code == 200
        assert (await box.get(box.live().windows[1].playlist_name)).status_code == 404


async def test_packets_of_other_tracks_are_left_alone(autojump_clock: object) -> None:
    async with station() as box:
        stream = box.start(AV)
        data = Track(id=9, media=MediaType.DATA, codec=Codec.ID3, timescale=1000)
        stream.publish(Packet(data, 0, 0, 0, True, b"ID3"))
        await play(stream, Feed(AV, gop=30), 4.0)
        assert sorted(box.live().windows) == [0, 1]


async def test_a_stream_that_nothing_can_carry(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    picture = Track(id=1, media=MediaType.VIDEO, codec=Codec.JPEG, timescale=90000, variant="image")
    async with station() as box:
        stream = box.start([picture])
        await trio.testing.wait_all_tasks_blocked()
        assert "nothing is published" in caplog.text
        assert (await box.get("llhls.m3u8")).status_code in (404, 503)
        stream.close()


