"""HLS pull from what ffmpeg's HLS muxer writes, over a real server: every frame, in real time, to the end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection
from fractions import Fraction
from pathlib import Path

import pytest
import trio

from appliance.errors import BadRequest, KilnError, RemoteProtocolError, Unavailable
from appliance.media.url import Url
from appliance.net.egress import Egress
from appliance.providers.hls import HlsPullSource
from tests.kit import ffmpeg, frames, pulling
from tests.kit.recording_directory import RecordedInput
from tests.kit.static_server import Answer, static_server


async def pulled(url: str, until: Callable[[RecordedInput], bool] = lambda _: False) -> RecordedInput:
    return await pulling.pulled(HlsPullSource, url, until)


def written(folder: Path, *arguments: str, spec: ffmpeg.SourceSpec = ffmpeg.SMALL, seconds: float = 4.0) -> Path:
    """What the HLS muxer makes of a file."""
    source = ffmpeg.source(spec)
    made = ffmpeg.run(
        ["-t", str(seconds), "-i", str(source), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0",
         *arguments, str(folder / "index.m3u8")]
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    return source


def pictures(target: RecordedInput) -> list[frames.Frame]:
    return [
        frames.Frame(
            Fraction(each.pts, each.track.timescale), Fraction(each.dts, each.track.timescale), each.keyframe,
            frames.slices_digest(each.payload),
        )
        for each in target.of("Video")
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
async def test_every_frame_in_real_time_to_the_end(tmp_path: Path, kind: str) -> None:
    source = written(tmp_path, "-hls_segment_type", kind, "-hls_playlist_type", "vod", spec=ffmpeg.B_FRAMES)
    async with static_server(tmp_path) as server:
        target = await pulled(server.url("/index.m3u8"))
        lasted = trio.current_time() - target.prepared_at
    video, audio = target.prepared
    assert (video.codec, video.width, video.height, audio.codec) == ("H264", 640, 360, "AAC")
    assert 3.7 < lasted < 4.6
    assert len(target.of("Video")) in range(118, 124)
    assert 185 <= len(target.of("Audio")) <= 190
    assert frames.run_in(pictures(target), frames.of_file(source, "video")) == 0
    moments = [each.dts / each.track.timescale for each in target.sent]
    assert all(after - before > -0.3 for before, after in itertools.pairwise(moments))
    # Sound goes with the picture.
    assert abs(target.of("Audio")[0].dts / audio.timescale - target.of("Video")[0].pts / video.timescale) < 0.1


def until_there(file: Path) -> None:
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.long
async def test_a_live_playlist_is_begun_near_its_end(tmp_path: Path) -> None:
    source = ffmpeg.source(ffmpeg.SMALL)
    arguments = ["-re", "-stream_loop", "-1", "-i", str(source), "-c", "copy", "-f", "hls", "-hls_time", "1",
                 "-hls_list_size", "5", "-hls_flags", "delete_segments", str(tmp_path / "index.m3u8")]  # fmt: skip
    with ffmpeg.Ffmpeg(arguments):
        await trio.to_thread.run_sync(until_there, tmp_path / "index5.ts")
        async with static_server(tmp_path) as server:
            target = await pulled(server.url("/index.m3u8"), lambda this: len(this.of("Video")) >= 150)
        first = server.asked[1]
    assert first in ("/index2.ts", "/index3.ts", "/index4.ts")
    frames.run_in(pictures(target), frames.of_file(source, "video"))
    # Two segments are ahead at first, then it goes by the clock.
    assert 4.5 < trio.current_time() - target.prepared_at < 6.5


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
async def test_parts_of_one_file(tmp_path: Path, kind: str) -> None:
    written(tmp_path, "-hls_segment_type", kind, "-hls_flags", "single_file", seconds=2)
    async with static_server(tmp_path) as server:
        target = await pulled(server.url("/index.m3u8"))
    assert len(target.of("Video")) in range(59, 63)
    assert len(server.ranges) >= 2


async def test_encrypted_segments(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(16)))
    info = tmp_path / "info"
    info.write_text(f"key\n{tmp_path / 'key'}\n")
    source = written(tmp_path, "-hls_key_info_file", str(info), seconds=2)
    assert (tmp_path / "index0.ts").read_bytes()[:1] != b"G"
    async with static_server(tmp_path) as server:
        target = await pulled(server.url("/index.m3u8"))
        assert server.asked.count("/key") == 1
        frames.run_in(pictures(target), frames.of_file(source, "video"))
        assert len(target.of("Video")) in range(59, 63)
        (tmp_path / "key").write_bytes(bytes(16))
        with pytest.raises(RemoteProtocolError, match="the key is wrong"):
            await pulled(server.url("/index.m3u8"))
        (tmp_path / "key").write_bytes(bytes(17))
        with pytest.raises(RemoteProtocolError, match="the key is longer than 16 bytes"):
            await pulled(server.url("/index.m3u8"))


async def test_variants_and_sound_of_their_own(tmp_path: Path) -> None:
    small, large = ffmpeg.source(ffmpeg.LONG), ffmpeg.source(ffmpeg.SMALL)
    made = ffmpeg.run(
        ["-t", "2", "-i", str(small), "-t", "2", "-i", str(large), "-map", "0:v", "-map", "1:v", "-map", "1:a",
         "-c", "copy", "-b:v:0", "300k", "-b:v:1", "600k", "-b:a:0", "128k",
         "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_segment_type", "fmp4",
         "-var_stream_map", "v:0,agroup:aud v:1,agroup:aud a:0,agroup:aud,default:yes",
         "-master_pl_name", "master.m3u8", str(tmp_path / "v%v.m3u8")]
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    async with static_server(tmp_path) as server:
        for fragment, width in (("", 640), ("#variant=0", 320), ("#variant=1", 640), ("#bandwidth=500000", 320),
                                ("#bandwidth=1", 320)):  # fmt: skip
            target = await pulled(server.url("/master.m3u8") + fragment, lambda this: len(this.of("Video")) > 20)
            video, audio = target.prepared
            assert (video.width, audio.codec, video.id != audio.id) == (width, "AAC", True)
            assert target.of("Audio")
        for fragment, reason in (("#variant=9", "there is no variant 9"), ("#t=3", "after # may stand")):
            with pytest.raises(BadRequest, match=reason):
                await pulled(server.url("/master.m3u8") + fragment)
        target = await pulled(server.url("/master.m3u8"))
        assert len(target.of("Video")) == 60
        moments = [each.dts / each.track.timescale for each in target.sent]
        assert all(after - before > -0.06 for before, after in itertools.pairwise(moments))


async def test_times_go_on_over_a_discontinuity(tmp_path: Path) -> None:
    written(tmp_path, seconds=2)
    (tmp_path / "b").mkdir()
    written(tmp_path / "b", "-hls_segment_type", "fmp4", "-output_ts_offset", "5000", spec=ffmpeg.LONG, seconds=2)
    playlist = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nindex0.ts\n#EXTINF:1,\nindex1.ts\n#EXT-X-DISCONTINUITY\n"
        '#EXT-X-MAP:URI="b/init.mp4"\n#EXTINF:1,\nb/index0.m4s\n#EXTINF:1,\nb/index1.m4s\n#EXT-X-ENDLIST\n'
    )
    (tmp_path / "both.m3u8").write_text(playlist)
    async with static_server(tmp_path) as server:
        target = await pulled(server.url("/both.m3u8"))
    assert len(target.of("Video")) == 120
    assert [width for width, _ in itertools.groupby(each.track.width for each in target.of("Video"))] == [640, 320]
    assert {each.track.id for each in target.of("Video")} == {target.prepared[0].id}
    assert target.of("Video")[-1].track.generation == 1
    times = [each.dts / each.track.timescale for each in target.of("Video")]
    assert all(0.02 < after - before < 0.2 for before, after in itertools.pairwise(times))


# What nobody should have to take


SEGMENT = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
KEY = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" '#EXT-X-KEY:METHOD=AES-128,URI="{}"\n' "#EXTINF:1,\nx.ts\n#EXT-X-ENDLIST\n"
MAP = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{}"\n#EXTINF:1,\nx.ts\n#EXT-X-ENDLIST\n'
SOUND = (
    '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{}"\n'
    '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nempty.m3u8\n'
)
REACHES = [
    ("file:///etc/passwd", "scheme"),
    ("concat:/etc/passwd|/etc/hosts", "no scheme|scheme"),
    ("data:text/plain,x", "scheme|URL that is none"),
    ("ftp://10.0.0.1/x", "scheme is ftp"),
    ("http://169.254.169.254/latest/meta-data", "metadata service"),
    ("http://[::1]/x", "this machine"),
    ("http://localhost:1/x", "this machine"),
    ("http://127.0.0.1:1/x", "this machine"),
    ("http://0x7f000001/x", "this machine"),
    ("http://10.0.0.1\\@evil/x", "backslash"),
    ("http://[", "URI that is none|IPv6|no host"),
]


@pytest.mark.parametrize("form", [SEGMENT, MASTER, KEY, MAP, SOUND])
@pytest.mark.parametrize(("uri", "reason"), REACHES)
async def test_no_uri_leads_out_of_where_it_may(
    form: str, uri: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with static_server() as server:
        server.gives("/index.m3u8", form.format(uri))
        server.gives("/empty.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n")
        server.gives("/x.ts", bytes(16))
        # The server itself may be reached, and nothing else of this machine.
        allowing(monkeypatch, server.port)
        with pytest.raises((BadRequest, RemoteProtocolError), match=reason):
            await pulled(server.url("/index.m3u8"))
        assert set(server.asked) <= {"/index.m3u8", "/x.ts", "/empty.m3u8"}


@pytest.mark.parametrize(("uri", "reason"), [each for each in REACHES if "concat" not in each[0]])
async def test_no_redirect_leads_out_of_where_it_may(uri: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with static_server() as server:
        server.gives("/index.m3u8", "", 302, f"Location: {uri}")
        allowing(monkeypatch, server.port)
        with pytest.raises((BadRequest, RemoteProtocolError), match=reason):
            await pulled(server.url("/index.m3u8"))


def allowing(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """The guard of the tests lets all of loopback be reached; here but one port of it."""
    check = Egress.check_url

    def strict(self: Egress, text: str, schemes: Collection[str]) -> Url:
        url = check(self, text, schemes)
        if url.port != port:
            Egress().check_host(url.host)
        return url

    monkeypatch.setattr(Egress, "check_url", strict)


async def endless(stream: trio.SocketStream, _: str) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n#EXTM3U\n")
    while True:
        await stream.send_all(b"#EXTINF:1,\nx\n" * 4096)


async def endless_comments(stream: trio.SocketStream, _: str) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n#EXTM3U\n")
    while True:
        await stream.send_all(b"#\n" * 32768)


async def silent(stream: trio.SocketStream, _: str) -> None:
    await trio.sleep_forever()


async def dripping(stream: trio.SocketStream, _: str) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"#")
        await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless, "more than 50000 segments"), (endless_comments, "longer than 4194304 bytes"),
        (silent, "does not answer in 3 s|does not come in 3 s"), (dripping, "does not come in 3 s"),
    ],
)  # fmt: skip
async def test_an_answer_without_end(answer: Answer, reason: str) -> None:
    async with static_server() as server:
        server.answers["/index.m3u8"] = answer
        with pytest.raises((Unavailable, RemoteProtocolError), match=reason):
            await pulled(server.url("/index.m3u8"))


async def test_nested_playlists_and_redirects_have_an_end() -> None:
    async with static_server() as server:
        for number in range(10_000):
            server.gives(f"/{number}.m3u8", MASTER.format(f"{number + 1}.m3u8"))
        with pytest.raises(RemoteProtocolError, match="nested"):
            await pulled(server.url("/0.m3u8"))
        assert len(server.asked) == 2
        server.gives("/round", "", 302, "Location: /round")
        with pytest.raises(Unavailable, match="redirected more than 3 times"):
            await pulled(server.url("/round"))


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "reason"),
    [
        (404, "", (), Unavailable, "answers 404 to a request for the playlist"),
        (200, "<html>", (), RemoteProtocolError, "no HLS playlist"),
        (200, "#EXTM3U\n", ("Content-Encoding: gzip",), RemoteProtocolError, "compressed"),
        (200, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-ENDLIST\n", (), Unavailable, "no segments"),
        (200, '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="ec-3"\nx\n', (), BadRequest, "can be carried: ec-3"),
        (200, KEY.format("k").replace("AES-128", "SAMPLE-AES"), (), BadRequest, "encrypted with SAMPLE-AES"),
    ],
)
async def test_what_can_not_be_played_is_told(
    status: int, body: str, headers: tuple[str, ...], error: type[KilnError], reason: str
) -> None:
    async with static_server() as server:
        server.gives("/index.m3u8", body, status, *headers)
        server.gives("/x.ts", bytes(16))
        with pytest.raises(error, match=reason):
            await pulled(server.url("/index.m3u8"))


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (b"ID3" + bytes(500), "packed audio"), (b"WEBVTT", "WebVTT"), (b"nothing", "neither MPEG-TS nor"),
        (b"G" + bytes(187), "no track"), (b"", "neither MPEG-TS nor"),
    ],
)  # fmt: skip
async def test_segments_that_are_none(segment: bytes, reason: str) -> None:
    async with static_server() as server:
        server.gives("/index.m3u8", SEGMENT.format("x.ts"))
        server.gives("/x.ts", segment)
        with pytest.raises((BadRequest, RemoteProtocolError), match=reason):
            await pulled(server.url("/index.m3u8"))


async def test_a_lost_segment_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, seconds=3)
    (tmp_path / "index1.ts").unlink()
    async with static_server(tmp_path) as server:
        target = await pulled(server.url("/index.m3u8"))
    assert len(target.of("Video")) in range(59, 63)
    assert server.asked.count("/index1.ts") == 3
