"""An RTMP server in the test's own loop, that keeps what is published to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from appliance.media.packet import Packet
from appliance.protocols.flv import FlvDemuxer
from appliance.protocols.rtmp import Audio, Metadata, Publish, RtmpServer, Unpublish, Video
from tests.kit.frames import slices_digest


@dataclass
class Published:
    """One connection. ``frames``: times in ms and digests of pictures."""

    app: str = ""
    key: str = ""
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    sound: int = 0
    metadata: list[dict[str, object]] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    codec: str = ""
    said_goodbye: bool = False


@dataclass
class RtmpSink:
    """``refuse``: what publishers are told instead of being let in. ``deaf``: nothing is read any more."""

    port: int = 0
    refuse: tuple[str, str] | None = None
    deaf: bool = False
    published: list[Published] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        server, one = RtmpServer(), Published()
        demuxer = FlvDemuxer(lambda reason: None)
        try:
            while not self.deaf and not server.refused and (data := await stream.receive_some(65536)):
                self._take(server, one, demuxer, bytes(data))
                await stream.send_all(server.data_to_send())
            if self.deaf:
                await trio.sleep_forever()
        except trio.BrokenResourceError:
            return
        finally:
            (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket.close()

    def _take(self, server: RtmpServer, one: Published, demuxer: FlvDemuxer, data: bytes) -> None:
        while True:
            for event in server.receive_data(data):
                match event:
                    case Publish():
                        one.app, one.key = event.address.app, event.address.stream
                        if self.refuse:
                            server.reject_publish(*self.refuse)
                        else:
                            server.accept_publish()
                            self.published.append(one)
                    case Video():
                        frame = demuxer.video_tag(event.timestamp, event.body)
                        if demuxer.video is not None and demuxer.video.generation not in one.generations:
                            one.generations.append(demuxer.video.generation)
                            one.codec = demuxer.video.codec
                        if frame is not None:
                            digest = slices_digest(frame[4]) if one.codec == "H264" else frame[4]
                            one.frames.append((event.timestamp, digest))
                    case Audio():
                        one.sound += demuxer.audio_tag(event.timestamp, event.body) is not None
                    case Metadata():
                        one.metadata.append(event.values)
                    case Unpublish():
                        one.said_goodbye = True
            data = b""
            if server.refused or not server.paused:
                return


def lost(one: Published, sent: list[Packet]) -> int:
    """How many pictures of ``sent`` did not come after the first that did."""
    wanted = [slices_digest(packet.payload) for packet in sent if packet.track.is_video]
    got = [digest for _, digest in one.frames]
    wanted = wanted[wanted.index(got[0]) :]
    return len(wanted) - len(got) if got == wanted[: len(got)] else len([d for d in wanted if d not in set(got)])


@asynccontextmanager
async def rtmp_sink(*, port: int = 0) -> AsyncIterator[RtmpSink]:
    sink = RtmpSink()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        sink.port = listener.socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, sink.serve, [listener]))
        yield sink
        nursery.cancel_scope.cancel()
