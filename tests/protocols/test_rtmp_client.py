"""Our RTMP client against a real server: ffmpeg listens, takes what we publish, and serves what we play."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from appliance.protocols.flv import FlvDemuxer, FlvMuxer, Frame
from appliance.protocols.rtmp import Audio, ClientEvent, RtmpClient, Started, Video
from tests.kit.ffmpeg import Ffmpeg
from tests.kit.rtmp_corpus import capture, events_of, frames_of


def connect(port: int) -> socket.socket:
    """As soon as ffmpeg listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def started(
    port: int, *, play: bool, digest: bool = True
) -> Iterator[tuple[socket.socket, RtmpClient, list[ClientEvent]]]:
    """A client on its socket, and the events that came with the start."""
    client = RtmpClient(f"rtmp://127.0.0.1:{port}/app", "app", "cam", play=play, digest=digest)
    with connect(port) as stream:
        events: list[ClientEvent] = []
        while not any(isinstance(event, Started) for event in events):
            stream.sendall(client.data_to_send())
            data = stream.recv(65536)
            assert data, f"closed while {client.state}"
            events = client.receive_data(data)
        yield stream, client, events


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("name", ["h264-aac", "h265-aac", "av1-opus"])
def test_ffmpeg_takes_what_we_publish(name: str, digest: bool, tmp_path: Path) -> None:
    frames, _ = frames_of(events_of([capture(name)])[0])
    port, path = free_port(), tmp_path / "got.mkv"
    with Ffmpeg(
        ["-listen", "1", "-i", f"rtmp://127.0.0.1:{port}/app/cam", "-c", "copy", "-copyts", str(path)]
    ) as ffmpeg:
        with started(port, play=False, digest=digest) as (stream, client, _):
            publish(stream, client, frames)
        assert ffmpeg.wait(20) == 0, ffmpeg.said()
    with av.open(str(path)) as container:
        got = [packet for packet in container.demux(video=0) if packet.size]
        assert [bytes(packet) for packet in got] == [frame[4] for frame in frames if frame[0].is_video]
    with av.open(str(path)) as container:
        sounds = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
        assert sounds == [frame[4] for frame in frames if frame[0].is_audio]


def publish(stream: socket.socket, client: RtmpClient, frames: list[Frame]) -> None:
    tracks = list({frame[0].id: frame[0] for frame in frames}.values())
    client.send_metadata(FlvMuxer.metadata(tracks))
    for track in tracks:
        send = client.send_video if track.is_video else client.send_audio
        send(0, FlvMuxer.configuration(track))
    for track, pts, dts, keyframe, payload, _ in frames:
        send = client.send_video if track.is_video else client.send_audio
        send(*FlvMuxer.frame(track, pts, dts, keyframe, payload))
        stream.sendall(client.data_to_send())
    client.stop()
    stream.sendall(client.data_to_send())


def test_we_can_play_from_ffmpeg(tmp_path: Path) -> None:
    source = tmp_path / "source.flv"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=128x72:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
    with Ffmpeg([*picture, "-t", "1", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-c:a", "aac", str(source)]) as made:
        assert made.wait(20) == 0
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/app/cam"
    with Ffmpeg(["-i", str(source), "-c", "copy", "-f", "flv", "-listen", "1", url]):
        demuxer = FlvDemuxer(pytest.fail)
        frames: list[Frame | None] = []
        with started(port, play=True) as (stream, client, events):
            data = b"start"
            while data:
                for event in events:
                    if isinstance(event, Video):
                        frames.append(demuxer.video_tag(event.timestamp, event.body))
                    elif isinstance(event, Audio):
                        frames.append(demuxer.audio_tag(event.timestamp, event.body))
                stream.sendall(client.data_to_send())
                data = stream.recv(65536)
                events = client.receive_data(data)
    got = [frame for frame in frames if frame is not None]
    assert len([frame for frame in got if frame[0].is_video]) == 25
    assert len([frame for frame in got if frame[0].is_audio]) >= 46
