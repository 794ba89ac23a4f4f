"""SRT out, judged by ffmpeg and srt-live-transmit."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from appliance.media.contracts import OutputStream, Playlist, Rendition, Source
from appliance.media.packet import Packet
from appliance.media.stream import Stream
from appliance.net import srt
from appliance.net.srt import SrtRefused, SrtSocket
from appliance.protocols.mpegts.demuxer import Demuxer, Frame
from appliance.publishers.srt import SrtPlayPort, SrtPlayServer, SrtPublisher
from appliance.settings.models import Application, Publishers
from appliance.settings.models import SrtPublisher as SrtSettings
from tests.kit import ffmpeg
from tests.kit.lossy import udp_relay
from tests.kit.recording_directory import RecordingDirectory, provider_context

pytestmark = pytest.mark.needs("libsrt")

CAPTURE = Path(__file__).parents[2] / "protocols" / "corpus" / "mpegts" / "h264-aac.ts"


def capture() -> tuple[Demuxer, list[Frame]]:
    demuxer = Demuxer()
    frames = demuxer.receive_data(CAPTURE.read_bytes())
    return demuxer, frames + demuxer.flush()


@dataclass
class Stage:
    """A stream on the air, and the port that players call."""

    stream: Stream
    server: SrtPlayServer
    publisher: SrtPublisher

    @property
    def port(self) -> int:
        return self.server.ports[0]

    async def play(self, seconds: float) -> None:
        """The capture over and over, in real time."""
        _, frames = capture()
        scale = [frame.dts / frame.track.timescale for frame in frames]
        first, length = min(scale), 1.2
        ordered = sorted(frames, key=lambda frame: frame.dts / frame.track.timescale)
        began, rounds = trio.current_time(), 0
        while trio.current_time() - began < seconds:
            for frame in ordered:
                at = frame.dts / frame.track.timescale - first + rounds * length
                await trio.sleep_until(began + at)
                shift = round((rounds * length - first) * frame.track.timescale)
                self.stream.publish(Packet(frame.track, frame.pts + shift, frame.dts + shift, frame.duration,
                                           frame.keyframe, frame.payload))  # fmt: skip
            rounds += 1


@asynccontextmanager
async def on_stage(options: dict[str, str] | None = None, most: int = 0) -> AsyncIterator[Stage]:
    demuxer, _ = capture()
    made = Application(name="app", type="live", publishers=Publishers(srt=SrtSettings(max_connection=most)))
    directory = RecordingDirectory({("default", "app"): made})
    stream = Stream("default/app/cam", demuxer.tracks)
    rendition = Rendition("a", video="", audio="Audio")
    playlists = [
        Playlist("ts", "sound", [rendition], enable_ts_packaging=True), Playlist("hls", "llhls", [rendition]),
    ]  # fmt: skip
    output = OutputStream("default", "app", "cam", stream, made, playlists, Source("Rtmp"))
    async with provider_context(directory) as context:
        publisher = SrtPublisher()
        assert publisher.accepts(demuxer.tracks)
        server = SrtPlayServer(context, publisher, [SrtPlayPort("127.0.0.1", 0, options or {})])
        await context.nursery.start(lambda task_status: server.run(lambda: None, task_status=task_status))
        context.nursery.start_soon(publisher.run, output, lambda: None)
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield Stage(stream, server, publisher)
        context.nursery.cancel_scope.cancel()


async def collect(socket: SrtSocket, into: bytearray) -> None:
    while data := await socket.receive():
        into += data
    socket.close()


async def test_players_share_one_transport_stream() -> None:
    async with on_stage() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.play, 5)
        got = [bytearray() for _ in range(3)]
        forms = "default/app/cam", "srt://any.host/app/cam/playlist", "#!::r=default/app/cam"
        for number, stream_id in enumerate(forms):
            caller = await srt.connect("127.0.0.1", stage.port, stream_id=stream_id)
            nursery.start_soon(collect, caller, got[number])
            await trio.sleep(0.3)
        assert stage.publisher.viewers("default", "app", "cam") == 3
        assert len(stage.server.statistics["default/app/cam"]) == 3
        await trio.sleep(3.5)
        stage.stream.close()
    for data in got:
        demuxer = Demuxer()
        frames = demuxer.receive_data(bytes(data))
        pictures = [frame for frame in frames if frame.track.is_video]
        assert pictures[0].keyframe
        assert len(pictures) > 60
        assert (demuxer.damage.continuity, demuxer.damage.garbage, demuxer.damage.broken) == (0, 0, 0)
    # The same bytes, from where the last of them joined.
    assert bytes(got[2][-50_000:]) in bytes(got[0])
    # Tables come again and again: who joins a relay in the middle finds them.
    assert got[0].count(b"\x47\x40\x00") >= 25


async def test_a_playlist_has_the_tracks_of_its_first_rendition() -> None:
    async with on_stage() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.play, 2)
        data = bytearray()
        caller = await srt.connect("127.0.0.1", stage.port, stream_id="default/app/cam/sound")
        nursery.start_soon(collect, caller, data)
        await trio.sleep(1.5)
        stage.stream.close()
    demuxer = Demuxer()
    frames = demuxer.receive_data(bytes(data))
    assert {frame.track.codec for frame in frames} == {"AAC"}


@pytest.mark.parametrize(
    ("stream_id", "code"),
    [
        ("", 1400), ("cam", 1400), ("default/app/no", 1404), ("default/no/cam", 1404), ("default/app/cam/no", 1404),
        ("default/app/cam/llhls", 1404), ("#!::r=default/app/cam,m=publish", 1405),
    ],
)  # fmt: skip
async def test_who_is_refused_is_told_why(stream_id: str, code: int) -> None:
    async with on_stage() as stage:
        with pytest.raises(SrtRefused) as refused:
            await srt.connect("127.0.0.1", stage.port, stream_id=stream_id)
        assert refused.value.code == code
        assert stage.server.counters.reasons == {code: 1}


async def test_there_may_be_a_most_of_players() -> None:
    async with on_stage(most=1) as stage:
        first = await srt.connect("127.0.0.1", stage.port, stream_id="default/app/cam")
        while not stage.publisher.viewers("default", "app", "cam"):  # noqa: ASYNC110
            await trio.sleep(0.01)
        with pytest.raises(SrtRefused) as refused:
            await srt.connect("127.0.0.1", stage.port, stream_id="default/app/cam")
        assert refused.value.code == 1503
        first.close()


async def test_ffmpeg_plays_it_with_a_passphrase() -> None:
    async with on_stage({"SRTO_PASSPHRASE": "a passphrase"}) as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.play, 9)
        url = f"srt://127.0.0.1:{stage.port}?streamid=default/app/cam&passphrase=a%20passphrase"
        played = await trio.to_thread.run_sync(
            lambda: ffmpeg.run(["-i", url, "-t", "3", "-map", "0:v", "-f", "framecrc", "-"], timeout=20)
        )
        stage.stream.close()
        nursery.cancel_scope.cancel()
    assert played.returncode == 0, played.stderr.decode()
    assert len([line for line in played.stdout.splitlines() if not line.startswith(b"#")]) >= 70
    assert b"corrupt" not in played.stderr


@pytest.mark.long
async def test_a_slow_player_begins_again_at_a_key_frame() -> None:
    async with on_stage() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.play, 8)
        async with udp_relay(("127.0.0.1", stage.port)) as relay:
            data = bytearray()
            caller = await srt.connect("127.0.0.1", relay.port, stream_id="default/app/cam")
            nursery.start_soon(collect, caller, data)
            await trio.sleep(1)
            (viewer,) = stage.publisher.outlets["default", "app", "cam"].viewers
            relay.black_hole()
            await trio.sleep(2)
            relay.heal()
            assert viewer.lapses >= 1
            assert viewer.left_out > 0
            before = len(data)
            await trio.sleep(3)
            assert viewer.socket.alive
        stage.stream.close()
        nursery.cancel_scope.cancel()
    assert len(data) > before
    demuxer = Demuxer()
    frames = [frame for frame in demuxer.receive_data(bytes(data)) if frame.track.is_video]
    # What was left out ends at a key frame.
    gaps = [after.keyframe for before, after in pairwise(frames) if after.dts - before.dts > 9000]
    assert gaps == [True]


@pytest.mark.needs("srt-tools")
async def test_srt_live_transmit_takes_it(tmp_path: Path) -> None:
    async with on_stage() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.play, 4)
        command = ["srt-live-transmit", "-q", "-to:4", f"srt://127.0.0.1:{stage.port}?streamid=default/app/cam", "file://con"]

        def transmit() -> bytes:
            try:
                return subprocess.run(command, capture_output=True, timeout=4, check=False).stdout
            except subprocess.TimeoutExpired as error:
                return error.stdout or b""

        data = await trio.to_thread.run_sync(transmit)
        stage.stream.close()
        nursery.cancel_scope.cancel()
    demuxer = Demuxer()
    frames = demuxer.receive_data(data)
    assert len([frame for frame in frames if frame.track.is_video]) > 40
    assert demuxer.damage.continuity == 0
