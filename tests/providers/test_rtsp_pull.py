"""RTSP pull from a real server: every frame, in time, by TCP and by UDP; and servers that don't behave."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
import trio

from appliance.errors import BadRequest, KilnError, RemoteProtocolError, Unavailable
from appliance.providers.rtsp import RtspPullSource
from tests.kit import ffmpeg, frames, pulling
from tests.kit.recording_directory import RecordedInput
from tests.kit.rtsp_server import rtsp_server

SECONDS = 4


async def pulled(url: str, until: Callable[[RecordedInput], bool]) -> RecordedInput:
    return await pulling.pulled(RtspPullSource, url, until)


def some_seconds(target: RecordedInput) -> bool:
    return len(target.of("Video")) > 30 * SECONDS and len(target.of("Audio")) > 46 * SECONDS


def check(target: RecordedInput) -> None:
    """Every frame of the file, from a key frame on, with its own time; picture and sound as far apart as there."""
    video, audio = target.prepared
    assert (video.codec, video.width, video.height, audio.codec, audio.sample_rate) == ("H264", 640, 360, "AAC", 48_000)
    pictures, sounds = target.of("Video"), target.of("Audio")
    assert pictures[0].keyframe
    file = ffmpeg.source(ffmpeg.SMALL)
    wanted, heard = frames.of_file(file, "video"), frames.of_file(file, "audio")
    got = [
        frames.Frame(Fraction(each.pts, 90_000), Fraction(each.dts, 90_000), each.keyframe, digest)
        for each in pictures
        for digest in [frames.slices_digest(each.payload)]
    ]
    first = frames.run_in(got, wanted)
    # The server works its times out anew, in nanoseconds.
    assert {b.pts - a.pts for a, b in itertools.pairwise(pictures)} <= {2999, 3000, 3001}
    assert {b.pts - a.pts for a, b in itertools.pairwise(sounds)} <= {1023, 1024, 1025}
    sound = next(
        number for number, frame in enumerate(heard)
        if frame.digest == hashlib.sha1(sounds[0].payload, usedforsecurity=False).digest()
    )  # fmt: skip
    there = heard[sound].pts - wanted[first].pts
    here = Fraction(sounds[0].pts, 48_000) - got[0].pts
    assert abs(here - there) <= Fraction(1, 50)


@pytest.mark.needs("rtsp-server")
async def test_by_tcp_with_a_digest() -> None:
    with rtsp_server(ffmpeg.source(ffmpeg.SMALL), "--user", "anna:s@cret", "--digest") as port:
        check(await pulled(f"rtsp://anna:s%40cret@127.0.0.1:{port}/live", some_seconds))


@pytest.mark.needs("rtsp-server")
async def test_by_udp_with_basic() -> None:
    with rtsp_server(ffmpeg.source(ffmpeg.SMALL), "--user", "anna:secret") as port:
        check(await pulled(f"rtsp://anna:secret@127.0.0.1:{port}/live#transport=udp", some_seconds))


@pytest.mark.needs("rtsp-server")
async def test_a_server_that_sends_by_udp_alone_is_pulled_all_the_same() -> None:
    with rtsp_server(ffmpeg.source(ffmpeg.SMALL), "--protocols", "udp") as port:
        check(await pulled(f"rtsp://127.0.0.1:{port}/live", some_seconds))


@pytest.mark.needs("rtsp-server")
async def test_a_wrong_password_and_a_wrong_path_are_told() -> None:
    with rtsp_server(ffmpeg.source(ffmpeg.SMALL), "--user", "anna:secret") as port:
        with pytest.raises(BadRequest, match="401"):
            await pulled(f"rtsp://anna:wrong@127.0.0.1:{port}/live", some_seconds)
        with pytest.raises(BadRequest, match="404"):
            await pulled(f"rtsp://anna:secret@127.0.0.1:{port}/nothing", some_seconds)


# Servers that don't behave

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def pulled_from(serve: Serve) -> None:
    """Raises what the source raises."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        fault: KilnError | None = None
        try:
            await pulled(f"rtsp://127.0.0.1:{listener.socket.getsockname()[1]}/live", some_seconds)
        except KilnError as error:
            fault = error
        nursery.cancel_scope.cancel()
    assert fault is not None
    raise fault


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await pulled_from(silent)


async def test_a_server_that_speaks_something_else() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep_forever()

    with pytest.raises(RemoteProtocolError):
        await pulled_from(serve)


async def test_a_server_that_hangs_up() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    with pytest.raises(Unavailable, match="closed"):
        await pulled_from(serve)


async def test_a_server_without_a_codec_of_ours_is_told() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        body = b"m=video 0 RTP/AVP 26\r\na=rtpmap:26 JPEG/90000\r\n"
        await stream.send_all(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await trio.sleep_forever()

    with pytest.raises(BadRequest, match="JPEG"):
        await pulled_from(serve)


async def test_nobody_listens() -> None:
    sock = trio.socket.socket()
    await sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    with pytest.raises(Unavailable):
        await pulled(f"rtsp://127.0.0.1:{port}/live", some_seconds)
    sock.close()


@pytest.mark.parametrize("url", ["rtsp://169.254.169.254/x", "rtsp://h/x#transport=quic", "rtsp:///x"])
async def test_urls_that_may_not_be(url: str) -> None:
    with pytest.raises(BadRequest):
        await pulled(url, some_seconds)
