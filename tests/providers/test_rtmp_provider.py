"""The RTMP provider on real sockets: admission, limits, time-outs, and what publishers do wrong."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from appliance.errors import NameTaken
from appliance.media.track import Track
from appliance.net.listener import Listener
from appliance.protocols.amf0 import encode
from appliance.protocols.flv import FlvMuxer, Frame
from appliance.protocols.rtmp import Refused, RtmpClient, Started
from appliance.protocols.rtmp.chunks import ChunkWriter, control_message
from appliance.providers.rtmp import RtmpProvider
from tests.kit.recording_directory import RecordedInput, RecordingDirectory, application, provider_context
from tests.kit.rtmp_corpus import BROKEN, capture, events_of, frames_of

FRAMES, _ = frames_of(events_of([capture("h264-aac")])[0])
VIDEO = [frame for frame in FRAMES if frame[0].is_video]
AUDIO = [frame for frame in FRAMES if frame[0].is_audio]
H265 = [frame for frame in frames_of(events_of([capture("h265-aac")])[0])[0] if frame[0].is_video]


@asynccontextmanager
async def serving(directory: RecordingDirectory) -> AsyncIterator[RtmpProvider]:
    async with provider_context(directory) as context:
        provider = RtmpProvider(context, [Listener.tcp("127.0.0.1", 0)])
        await context.nursery.start(provider.run, lambda: None)
        try:
            yield provider
        finally:
            while STREAMS:
                await trio.aclose_forcefully(STREAMS.pop())


#: What the test has opened.
STREAMS: list[trio.SocketStream] = []


async def open_stream(provider: RtmpProvider) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", provider.ports[0])
    STREAMS.append(stream)
    return stream


class Encoder:
    """Our own client on a socket."""

    def __init__(self, stream: trio.SocketStream, client: RtmpClient) -> None:
        self.stream = stream
        self.client = client
        self.refused: Refused | None = None

    @classmethod
    async def connect(cls, provider: RtmpProvider, path: str = "app/cam", host: str = "127.0.0.1") -> Encoder:
        app, _, key = path.partition("/")
        stream = await open_stream(provider)
        return cls(stream, RtmpClient(f"rtmp://{host}:1935/{app}", app, key))

    @classmethod
    async def publishing(cls, provider: RtmpProvider, path: str = "app/cam", host: str = "127.0.0.1") -> Encoder:
        encoder = await cls.connect(provider, path, host)
        await encoder.start()
        assert encoder.refused is None
        return encoder

    async def start(self) -> None:
        """Until we are told that we are on, or why not."""
        with trio.fail_after(10):
            while True:
                await self.flush()
                data = await self.stream.receive_some()
                assert data, "closed without a word"
                for event in self.client.receive_data(data):
                    if isinstance(event, Started):
                        return
                    if isinstance(event, Refused):
                        self.refused = event
                        return

    async def flush(self) -> None:
        await self.stream.send_all(self.client.data_to_send())

    async def headers(self, *tracks: Track, metadata: bool = True) -> None:
        if metadata:
            self.client.send_metadata(FlvMuxer.metadata(list(tracks)))
        for track in tracks:
            send = self.client.send_video if track.is_video else self.client.send_audio
            send(0, FlvMuxer.configuration(track))
        await self.flush()

    async def frames(self, frames: Sequence[Frame], shift: int = 0) -> None:
        for track, pts, dts, keyframe, payload, _ in frames:
            time, body = FlvMuxer.frame(track, pts, dts, keyframe, payload)
            send = self.client.send_video if track.is_video else self.client.send_audio
            send(time + shift, body)
        await self.flush()

    async def closed(self, seconds: float = 10) -> None:
        """Until the server has closed the connection."""
        with trio.fail_after(seconds):
            try:
                while await self.stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass

    async def reset(self) -> None:
        """Break off as a pulled plug looks: RST."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


async def test_a_publisher_is_an_input_until_it_ends() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES)
        live = directory.inputs[0]
        await live.wait(lambda it: len(it.sent) == len(FRAMES))
        assert [(sent.dts, sent.payload) for sent in live.sent] == [(frame[2], frame[4]) for frame in FRAMES]
        assert (provider.counters.publishers, provider.counters.pending) == (1, 0)
        encoder.client.stop()
        await encoder.flush()
        assert await live.wait_closed() == "ended by the publisher (FCUnpublish)"
        await encoder.stream.aclose()
        assert provider.counters.publishers == 0
        assert provider.bytes > sum(len(frame[4]) for frame in FRAMES)
    assert live.label == "default/app/cam"
    assert live.source.address == "127.0.0.1"
    assert live.source.url.startswith("TCP://127.0.0.1:")


@pytest.mark.parametrize(
    ("rtmp", "path", "host", "code", "reason"),
    [
        ({}, "nowhere/cam", "box", "NetStream.Publish.Rejected", "no application 'nowhere'"),
        ({}, "app/cam", "elsewhere", "NetStream.Publish.Rejected", "no virtual host for 'elsewhere'"),
        ({}, "app/", "box", "NetStream.Publish.Rejected", "no name"),
        ({}, "app/..", "box", "NetStream.Publish.Rejected", "no name for a stream"),
        ({}, "off/cam", "box", "NetStream.Publish.Denied", "RTMP is off"),
        ({"publish_key": "s3cret"}, "app/cam", "box", "NetStream.Publish.Denied", "publish key"),
        ({"publish_key": "s3cret"}, "app/cam?key=s3cre", "box", "NetStream.Publish.Denied", "publish key"),
        ({"publish_key": "s3cret"}, "app/cam?key=%73é", "box", "NetStream.Publish.Denied", "publish key"),
        ({}, "app/taken", "box", "NetStream.Publish.BadName", "app/taken is live"),
    ],
)
async def test_refusals_are_told_with_code_and_reason(
    rtmp: dict[str, object], path: str, host: str, code: str, reason: str
) -> None:
    off = application("off")
    applications = {
        ("default", "app"): application("app", **rtmp),
        ("default", "off"): type(off)(name="off", type="live"),
    }
    directory = RecordingDirectory(applications, {"box": "default"})
    async with serving(directory) as provider:
        if path == "app/taken":
            await Encoder.publishing(provider, path, host)
        encoder = await Encoder.connect(provider, path, host)
        await encoder.start()
        assert encoder.refused is not None
        assert encoder.refused.code == code
        assert reason in encoder.refused.description
        await encoder.closed()
        assert provider.counters.refused == 1


async def test_the_right_key_opens() -> None:
    directory = RecordingDirectory({("default", "app"): application(publish_key="a b%")})
    async with serving(directory) as provider:
        await Encoder.publishing(provider, "app/cam?x=1&key=a%20b%25")
        assert directory.inputs[0].label == "default/app/cam"


async def test_an_empty_key_takes_the_name_from_the_url() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        stream = await open_stream(provider)
        encoder = Encoder(stream, RtmpClient("rtmp://box/app/cam?x=1", "app/cam", ""))
        await encoder.start()
        assert directory.inputs[0].label == "default/app/cam"


async def test_the_virtual_host_is_found_by_the_host_name() -> None:
    applications = {("one", "app"): application(), ("two", "app"): application()}
    directory = RecordingDirectory(applications, {"*.one.example": "one", "two.example": "two"})
    async with serving(directory) as provider:
        await Encoder.publishing(provider, host="live.one.example")
        await Encoder.publishing(provider, host="TWO.example")
        assert [live.label for live in directory.inputs] == ["one/app/cam", "two/app/cam"]


async def test_a_duplicate_name_can_replace_the_old_publisher() -> None:
    directory = RecordingDirectory({("default", "app"): application(block_duplicate_stream_name=False)})
    async with serving(directory) as provider:
        first = await Encoder.publishing(provider)
        await first.headers(VIDEO[0][0], AUDIO[0][0])
        second = await Encoder.publishing(provider)
        assert await directory.inputs[0].wait_closed() == "replaced"
        await first.closed()
        await second.headers(VIDEO[0][0], AUDIO[0][0])
        await second.frames(FRAMES)
        await directory.inputs[1].wait(lambda it: len(it.sent) == len(FRAMES))


async def test_the_number_of_publishers_can_be_limited() -> None:
    directory = RecordingDirectory({("default", "app"): application(max_connection=1)})
    async with serving(directory) as provider:
        first = await Encoder.publishing(provider, "app/one")
        second = await Encoder.connect(provider, "app/two")
        await second.start()
        assert second.refused is not None
        assert "no more than 1" in second.refused.description
        await first.stream.aclose()
        await directory.inputs[0].wait_closed()
        await Encoder.publishing(provider, "app/three")


async def test_an_input_that_the_engine_ends_closes_its_connection() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await directory.inputs[0].wait(lambda it: it.closed is None)
        directory.inputs[0].cancel("deleted")
        await encoder.closed()
        assert provider.counters.publishers == 0


async def test_one_connection_may_publish_twice_in_turn() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider, "app/one")
        encoder.client.stop()
        await encoder.flush()
        await directory.inputs[0].wait_closed()
        await encoder.stream.send_all(ChunkWriter().message(3, 20, 1, 0, encode("publish", 9, None, "two", "live")))
        assert (await directory.opened(2)).label == "default/app/two"


# ---- when a stream goes on air


@pytest.mark.parametrize("frames", [VIDEO, AUDIO], ids=["video alone", "audio alone"])
async def test_one_track_goes_on_air_at_once_when_metadata_says_so(frames: list[Frame]) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(frames[0][0])
        await encoder.frames(frames[:2])
        await directory.inputs[0].wait(lambda it: len(it.sent) == 2)
        assert [track.media for track in directory.inputs[0].prepared] == [frames[0][0].media]


@pytest.mark.parametrize("frames", [VIDEO, AUDIO], ids=["video alone", "audio alone"])
async def test_one_track_without_metadata_waits_a_second_and_a_half_of_media(frames: list[Frame]) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(frames[0][0], metadata=False)
        await encoder.frames(frames)
        live = directory.inputs[0]
        await live.wait(lambda it: len(it.sent) == len(frames))
        assert len(live.prepared) == 1
        assert live.sent[0].payload == frames[0][4]


async def test_the_second_track_is_waited_for() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], metadata=False)
        await encoder.frames(VIDEO[:20])
        await encoder.headers(AUDIO[0][0], metadata=False)
        await encoder.frames(AUDIO[:20])
        live = directory.inputs[0]
        await live.wait(lambda it: len(it.sent) == 40)
        assert [track.codec for track in live.prepared] == ["H264", "AAC"]


async def test_a_codec_that_is_not_carried_is_not_waited_for() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        encoder.client.send_audio(0, b"\x2fmp3")
        await encoder.headers(VIDEO[0][0], metadata=False)
        await encoder.frames(VIDEO[:1])
        await directory.inputs[0].wait(lambda it: len(it.sent) == 1)


@pytest.mark.parametrize("gone", [False, True], ids=["stays", "ends its stream in the same breath"])
async def test_a_publisher_of_nothing_that_is_carried_is_told_so(gone: bool) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        encoder.client.send_audio(0, b"\x2fmp3")
        encoder.client.send_video(0, b"\x22h263")
        if gone:
            encoder.client.stop()
        await encoder.start()
        assert encoder.refused is not None
        assert "no track that can be carried" in encoder.refused.description
        await encoder.closed()
        assert "refused" in (directory.inputs[0].closed or "")


async def test_a_stream_that_the_engine_can_not_take_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: RecordedInput, tracks: Sequence[Track]) -> None:
        raise NameTaken("output stream cam is on already")

    monkeypatch.setattr(RecordedInput, "prepare", refuse)
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES)
        await encoder.start()
        assert encoder.refused == Refused("NetStream.Publish.BadName", "output stream cam is on already")
        await encoder.closed()


async def test_video_begins_with_a_key_frame() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames([*VIDEO[3:25], *AUDIO[:2], *VIDEO[25:30]])
        live = directory.inputs[0]
        await live.wait(lambda it: len(it.sent) == 7)
        assert [sent.keyframe for sent in live.of("Video")] == [True, False, False, False, False]


async def test_broken_tags_are_left_out_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES[:10])
        encoder.client.send_video(500, b"\x17\1\0\0\0\xff\xff\xff\xffbroken")
        encoder.client.send_video(500, b"\x17")
        await encoder.frames(FRAMES[10:])
        await directory.inputs[0].wait(lambda it: len(it.sent) == len(FRAMES))
    assert "broken video tag left out stream=default/app/cam" in caplog.text


async def test_a_change_of_codec_ends_the_stream() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES[:10])
        encoder.client.send_video(500, FlvMuxer.configuration(H265[0][0]))
        await encoder.flush()
        assert "avc1 to hvc1" in await directory.inputs[0].wait_closed()
        await encoder.closed()


async def test_times_go_past_24_and_32_bits() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        for number, start in enumerate((0xFFFFFF - 900, 0xFFFFFFFF - 900)):
            encoder = await Encoder.publishing(provider, f"app/cam{number}")
            await encoder.headers(VIDEO[0][0], AUDIO[0][0])
            await encoder.frames(FRAMES, shift=start)
            live = directory.inputs[number]
            await live.wait(lambda it: len(it.sent) == len(FRAMES))
            pictures = live.of("Video")
            assert [sent.dts - pictures[0].dts for sent in pictures] == [frame[2] - VIDEO[0][2] for frame in VIDEO]
            sounds = live.of("Audio")
            steps = [after.dts - before.dts for before, after in itertools.pairwise(sounds)]
            assert set(steps) <= {21 * 48, 22 * 48, 23 * 48, 20 * 48}


def has_sent(count: int, live: RecordedInput) -> bool:
    return len(live.sent) == count


@pytest.mark.parametrize("window", [0, 40_000])
@pytest.mark.parametrize("segment", [100, 1448, 20_000])
async def test_large_frames_in_small_segments_arrive_at_once(segment: int, window: int) -> None:
    """With ``window`` the encoder waits for an acknowledgement after each so many bytes, as the protocol lets it."""
    directory = RecordingDirectory()
    large = (b"\0\x02\x49\xec" + b"\x65" + bytes(149_995)) + b"\0\0\0\1\x65"
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0])
        if window:
            await encoder.stream.send_all(control_message(5, window.to_bytes(4, "big")))
        track = VIDEO[0][0]
        for number in range(3):
            encoder.client.send_video(*FlvMuxer.frame(track, 3000 * number, 3000 * number, True, large))
            wire = encoder.client.data_to_send()
            unacknowledged = 0
            for start in range(0, len(wire), segment):
                if window and unacknowledged + segment > window:
                    with trio.fail_after(2):
                        await encoder.stream.receive_some()
                    unacknowledged = 0
                await encoder.stream.send_all(wire[start : start + segment])
                unacknowledged += segment
            await directory.inputs[0].wait(partial(has_sent, number + 1), 2)
        assert [sent.payload for sent in directory.inputs[0].sent] == [large] * 3


# ---- peers that harm


@pytest.mark.parametrize("name", BROKEN)
async def test_garbage_ends_its_own_connection_alone(name: str) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        good = await Encoder.publishing(provider, "app/good")
        await good.headers(VIDEO[0][0], AUDIO[0][0])
        bad = await open_stream(provider)
        try:
            await bad.send_all(capture(name))
            await bad.send_eof()
            with trio.fail_after(5):
                while await bad.receive_some():
                    pass
        except trio.BrokenResourceError:
            pass
        await good.frames(FRAMES)
        await directory.inputs[0].wait(lambda it: len(it.sent) == len(FRAMES))


async def test_a_publisher_that_breaks_off_is_gone_at_once() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES[:10])
        await directory.inputs[0].wait(lambda it: len(it.sent) == 10)
        await encoder.reset()
        assert "connection" in await directory.inputs[0].wait_closed(2)
        await Encoder.publishing(provider)
        assert directory.live["default", "app", "cam"] is directory.inputs[1]


async def test_a_publisher_that_never_reads_stays_on_air() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        encoder.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES)
        # Each ping makes the server answer; nobody reads the answers.
        ping = b"\x02\0\0\0\0\0\x06\x04\0\0\0\0\0\6when"
        with trio.move_on_after(20):
            for _ in range(60):
                await encoder.stream.send_all(ping * 5000)
        await encoder.frames(FRAMES, shift=3000)
        await directory.inputs[0].wait(lambda it: len(it.sent) == 2 * len(FRAMES), 20)
        assert all(len(connection.unsent) < 1 << 20 for connection in provider.connections)


async def test_silent_connections_of_one_address_are_limited_and_do_no_harm() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        good = await Encoder.publishing(provider, "app/good")
        await good.headers(VIDEO[0][0], AUDIO[0][0])
        silent = [await open_stream(provider) for _ in range(100)]
        await good.frames(FRAMES)
        await directory.inputs[0].wait(lambda it: len(it.sent) == len(FRAMES))
        assert provider.counters.pending == 32
        assert provider.counters.refused == 68
        for stream in silent:
            await stream.aclose()
        with trio.fail_after(5):
            while provider.counters.pending:  # noqa: ASYNC110 (sockets close when the kernel says so)
                await trio.sleep(0.01)
        await Encoder.publishing(provider, "app/later")


async def test_five_hundred_half_open_connections_do_no_harm() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        good = await Encoder.publishing(provider, "app/good")
        await good.headers(VIDEO[0][0], AUDIO[0][0])
        for number in range(500):
            # From enough addresses that the limit of each is not reached.
            address = f"127.1.{number % 25}.1"
            half_open = await trio.open_tcp_stream("127.0.0.1", provider.ports[0], local_address=address)
            STREAMS.append(half_open)
            await half_open.send_all(b"\x03" + bytes(number))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await good.frames(FRAMES)
        await directory.inputs[0].wait(lambda it: len(it.sent) == len(FRAMES))
        assert trio.current_time() - began < 1
        assert provider.counters.pending == 500
        await Encoder.publishing(provider, "app/another")


async def test_accepting_survives_a_lack_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RecordingDirectory()
    accept, failures = socket.socket.accept, iter(range(3))

    def failing(self: socket.socket) -> tuple[socket.socket, object]:
        if next(failures, None) is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    async with serving(directory) as provider:
        monkeypatch.setattr(socket.socket, "accept", failing)
        await Encoder.publishing(provider)


# ---- deadlines, in virtual time


async def test_a_connection_that_does_not_publish_is_dropped_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        for say in (b"", b"\x03", capture("h264-aac")[:3100]):
            stream = await open_stream(provider)
            began = trio.current_time()
            if say:
                await stream.send_all(say)
            while await stream.receive_some():
                pass
            assert 9 < trio.current_time() - began < 13
            await stream.aclose()
    assert directory.inputs == []


async def test_a_publisher_without_media_gives_its_name_back(autojump_clock: trio.testing.MockClock) -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.closed(60)
        assert directory.inputs[0].closed == "no playable track within 10 s"


@pytest.mark.parametrize(("setting", "closed"), [(3000, "no data for 3000 ms"), (0, None)])
async def test_a_silent_publisher_is_ended_when_the_application_says_so(
    setting: int, closed: str | None, autojump_clock: trio.testing.MockClock
) -> None:
    directory = RecordingDirectory({("default", "app"): application(packet_silence_timeout_ms=setting)})
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        await encoder.headers(VIDEO[0][0], AUDIO[0][0])
        await encoder.frames(FRAMES)
        live = directory.inputs[0]
        await live.wait(lambda it: len(it.sent) == len(FRAMES))
        await trio.sleep(2)
        assert live.closed is None
        await trio.sleep(60)
        assert live.closed == closed
        await encoder.stream.aclose()


async def test_progress_is_shown_while_nothing_happens(autojump_clock: trio.testing.MockClock) -> None:
    steps: list[float] = []
    async with provider_context(RecordingDirectory()) as context:
        provider = RtmpProvider(context, [Listener.tcp("127.0.0.1", 0)])
        await context.nursery.start(provider.run, lambda: steps.append(trio.current_time()))
        await trio.sleep(30)
    assert len(steps) >= 29


async def test_a_provider_can_run_again_after_it_was_stopped() -> None:
    directory = RecordingDirectory()
    async with provider_context(directory) as context:
        provider = RtmpProvider(context, [Listener.tcp("127.0.0.1", 0)])
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                await nursery.start(provider.run, lambda: None)
                await Encoder.publishing(provider)
                await STREAMS.pop().aclose()
                await directory.inputs[-1].wait_closed()
                await Encoder.publishing(provider)
                nursery.cancel_scope.cancel()
            await STREAMS.pop().aclose()
    assert [live.closed for live in directory.inputs] == ["closed by the publisher", "the box stops"] * 2
    assert provider.counters.connections == provider.counters.publishers == provider.counters.pending == 0
