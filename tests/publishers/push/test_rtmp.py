"""What is special about RTMP: sequence headers, metadata, Enhanced RTMP, TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import msgspec
import pytest
import trio

from appliance.media.codecs import h265
from appliance.media.contracts import OutputStream, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.media.tasks import TaskState
from appliance.net.egress import Egress
from appliance.net.tls import self_signed
from tests.kit.ffmpeg import SMALL, run, source
from tests.publishers.push.kit import Programme, later, packets_of, programme, push, pusher, until
from tests.publishers.push.rtmp_sink import RtmpSink, rtmp_sink


async def test_a_new_configuration_is_sent_before_its_first_frame() -> None:
    show = programme(source(SMALL), speed=8)
    async with rtmp_sink() as sink, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{sink.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        await show.play(2)
        old = next(packet.track for packet in show.packets if packet.track.is_video)
        # The same parameter sets in another profile's name: another configuration to whoever compares them.
        config = old.codec_config[:3] + bytes((old.codec_config[3] ^ 1,)) + old.codec_config[4:]
        new = msgspec.structs.replace(old, generation=1, codec_config=config, width=1280)
        for packet in show.packets[:200]:
            moved = later(packet, 2)
            show.publish(msgspec.structs.replace(moved, track=new) if packet.track is old else moved)
        show.output.stream.close()
        await push_.ended()
    (one,) = sink.published
    assert one.generations == [0, 1]
    assert [values["width"] for values in one.metadata] == [640.0, 1280.0]
    assert one.metadata[0]["encoder"] == "Kiln"
    assert one.metadata[0]["audiosamplerate"] == 48000.0
    assert len(one.frames) == show.video
    # The first sound is older than the first picture.
    assert one.sound == len(show.played) - show.video - 1


async def test_times_that_go_back_are_left_out() -> None:
    tracks, packets = packets_of(source(SMALL))
    output = OutputStream("tv", "app", "cam", Stream("tv/app/cam", tracks), object(), [], Source("Rtmp"))
    async with rtmp_sink() as sink, pusher(output) as push_:
        task = push(f"rtmp://127.0.0.1:{sink.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        for packet in [*packets[:200], *packets[100:150], *packets[200:300]]:
            output.stream.publish(packet)
        output.stream.close()
        await push_.ended()
    times = [time for time, _ in sink.published[0].frames]
    assert times == sorted(set(times))
    assert len(times) == sum(packet.track.is_video for packet in packets[:300])


def hevc(folder: Path) -> Programme:
    file = folder / "hevc.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", "2"]
    encode = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=30:bframes=2:log-level=none"]
    made = run([*picture, *encode, "-tag:v", "hvc1", "-y", str(file)])
    assert made.returncode == 0, made.stderr
    with av.open(str(file)) as container:
        (stream,) = container.streams.video
        track = h265.track_from_config(0, stream.codec_context.extradata or b"")
        packets = [
            Packet(track, int((p.pts + 2000) * p.time_base * 90000), int((p.dts + 2000) * p.time_base * 90000), 0,
                   p.is_keyframe, bytes(p))
            for p in container.demux(stream) if p.pts is not None and p.dts is not None and p.time_base is not None
        ]  # fmt: skip
    output = OutputStream("tv", "app", "cam", Stream("tv/app/cam", [track]), object(), [], Source("Rtmp"))
    return Programme(output, packets, 8)


async def test_hevc_goes_by_enhanced_rtmp(tmp_path: Path) -> None:
    show = hevc(tmp_path)
    async with rtmp_sink() as sink, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{sink.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        await show.play(10)
        show.output.stream.close()
        await push_.ended()
    (one,) = sink.published
    assert one.codec == "H265"
    assert [digest for _, digest in one.frames] == [packet.payload for packet in show.played]
    assert len(one.frames) == 60


@asynccontextmanager
async def tls_front(sink: RtmpSink, folder: Path, name: str) -> AsyncIterator[tuple[int, Path]]:
    """A TLS port in front of ``sink``, and the certificate that it shows."""
    cert, key = self_signed([name], folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.do_handshake()
            await sink.serve(stream)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.transport_listener.socket.getsockname()[1], cert  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()


async def loopback(host: str) -> list[str]:
    return ["127.0.0.1"]


async def test_rtmps_trusts_the_systems_roots_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = programme(source(SMALL), speed=8)
    async with rtmp_sink() as sink, tls_front(sink, tmp_path / "tls", "live.test") as (port, cert):
        task = push(f"rtmps://live.test:{port}/live", key="k")
        async with pusher(show.output, Egress(["127.0.0.0/8"], look_up=loopback)) as push_:
            push_.start(task)
            await until(lambda: task.error != "")
            assert "TLS failed: self-signed certificate" in task.error
            await push_.end()
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        async with pusher(show.output, Egress(["127.0.0.0/8"], look_up=loopback)) as push_:
            push_.start(task)
            await until(lambda: task.state is TaskState.STARTED)
            await show.play(2)
            show.output.stream.close()
            await push_.ended()
    assert task.error == ""
    assert len(sink.published[0].frames) == 60
