"""RTMP pull from a real server (ffmpeg that listens), and from servers that don't behave."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
import trio

from appliance.errors import BadRequest, KilnError, RemoteProtocolError, Unavailable
from appliance.providers.rtmp import RtmpPullSource
from tests.kit import ffmpeg, frames, pulling
from tests.kit.ports import free_port
from tests.kit.recording_directory import RecordedInput


async def pulled(url: str, wanted: int = 100) -> RecordedInput:
    return await pulling.pulled(RtmpPullSource, url, lambda this: len(this.of("Video")) >= wanted)


async def listening(server: ffmpeg.Ffmpeg, port: int) -> None:
    """Until ffmpeg has its port. It takes one connection only, so nobody may try."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    with trio.fail_after(10):
        while wanted not in await trio.Path("/proc/net/tcp").read_text():
            assert server.running, server.said()
            await trio.sleep(0.02)


async def test_every_frame_of_a_real_server() -> None:
    port, file = free_port(), ffmpeg.source(ffmpeg.SMALL)
    url = f"rtmp://127.0.0.1:{port}/live/cam"
    with ffmpeg.Ffmpeg(["-re", "-i", str(file), "-c", "copy", "-f", "flv", "-listen", "1", url]) as server:
        await listening(server, port)
        target = await pulled(url)
    video, audio = target.prepared
    assert (video.codec, video.width, video.height, audio.codec) == ("H264", 640, 360, "AAC")
    pictures = target.of("Video")
    got = [
        frames.Frame(Fraction(each.pts, 90_000), Fraction(each.dts, 90_000), each.keyframe, digest)
        for each in pictures
        for digest in [frames.slices_digest(each.payload)]
    ]
    assert frames.run_in(got, frames.of_file(file, "video")) == 0
    # The times of RTMP are whole milliseconds.
    assert all(2970 <= after.pts - before.pts <= 3060 for before, after in itertools.pairwise(pictures))


async def test_the_end_of_the_file_ends_the_pull() -> None:
    port, file = free_port(), ffmpeg.source(ffmpeg.SMALL)
    url = f"rtmp://127.0.0.1:{port}/live/cam"
    arguments = ["-re", "-t", "1.5", "-i", str(file), "-c", "copy", "-f", "flv", "-listen", "1", url]
    with ffmpeg.Ffmpeg(arguments) as server:
        await listening(server, port)
        try:
            target = await pulled(url, wanted=10_000)
        except Unavailable as error:
            # ffmpeg hangs up without a word, or tells the end, by its version.
            assert "closed" in str(error)  # noqa: PT017
        else:
            assert 40 <= len(target.of("Video")) <= 46


# Servers that don't behave

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def pulled_from(serve: Serve) -> None:
    """Raises what the source raises."""
    fault: KilnError | None = None
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        try:
            await pulled(f"rtmp://127.0.0.1:{listener.socket.getsockname()[1]}/live/cam")
        except KilnError as error:
            fault = error
        nursery.cancel_scope.cancel()
    assert fault is not None
    raise fault


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with pytest.raises(Unavailable, match="silent for 3 s"):
        await pulled_from(serve)


async def test_a_server_that_hangs_up() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    with pytest.raises(Unavailable):
        await pulled_from(serve)


async def test_a_server_that_speaks_something_else() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(4000))
        await trio.sleep_forever()

    with pytest.raises(RemoteProtocolError):
        await pulled_from(serve)


@pytest.mark.parametrize("url", ["rtmp://127.0.0.1/app", "rtmp://127.0.0.1", "rtmp://169.254.169.254/app/s", "rtmp:x"])
async def test_urls_that_may_not_be(url: str) -> None:
    with pytest.raises(BadRequest):
        await pulled(url)
