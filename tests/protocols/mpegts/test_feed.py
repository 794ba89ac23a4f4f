"""A transport stream into an input: when it goes on the air, with what, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import RemoteProtocolError
from appliance.media.contracts import Source
from appliance.media.events import Event, Splice, TimedMetadata
from appliance.protocols.mpegts.feed import MOST_GARBAGE, TransportFeed
from appliance.protocols.scte35 import splice_insert
from tests.kit.recording_directory import RecordedInput, RecordingDirectory
from tests.protocols.mpegts.test_demuxer import demux, with_data

CORPUS = Path(__file__).parents[1] / "corpus" / "mpegts"


def opened() -> RecordedInput:
    return RecordingDirectory().open_input("default", "app", "cam", Source("SRT"))


def capture(name: str) -> bytes:
    return (CORPUS / f"{name}.ts").read_bytes()


def without(data: bytes, pid: int) -> bytes:
    """The packets of other PIDs."""
    packets = (data[at : at + 188] for at in range(0, len(data), 188))
    return b"".join(packet for packet in packets if (packet[1] & 0x1F) << 8 | packet[2] != pid)


async def test_it_goes_on_the_air_when_all_tracks_are_known() -> None:
    target = opened()
    feed = TransportFeed(target)
    data = capture("h264-aac")
    for at in range(0, len(data), 1316):
        feed.receive(data[at : at + 1316])
    feed.finish()
    assert [track.codec for track in target.prepared] == ["H264", "AAC"]
    assert len(target.of("Video")) == 30
    first = target.of("Video")[0]
    assert first.keyframe
    assert all(each.pts / 48000 >= first.dts / 90000 for each in target.of("Audio"))


async def test_a_picture_that_is_announced_is_waited_for() -> None:
    target = opened()
    feed = TransportFeed(target)
    assert feed.lacking == "no program map (PMT) came"
    feed.receive(without(capture("h264-aac"), 0x100))
    assert feed.lacking == "no key frame of the picture came"
    assert target.prepared == []
    feed.receive(capture("h264-aac"))
    assert feed.on_air
    assert [track.codec for track in target.prepared] == ["H264", "AAC"]


async def test_codecs_that_change_are_new_generations_of_the_same_tracks() -> None:
    target = opened()
    feed = TransportFeed(target)
    for name in ("h264-aac", "h265-opus"):
        feed.receive(capture(name))
    feed.finish()
    assert {(each.track.id, each.track.generation, each.track.codec) for each in target.sent} == {
        (0x100, 0, "H264"), (0x101, 0, "AAC"), (0x100, 1, "H265"), (0x101, 1, "OPUS"),
    }  # fmt: skip


async def test_what_is_no_transport_stream_is_refused() -> None:
    feed = TransportFeed(opened())
    feed.receive(bytes(MOST_GARBAGE))
    with pytest.raises(RemoteProtocolError, match="no MPEG transport stream"):
        feed.receive(b"GET / HTTP/1.1\r\n" * 625)


class Injected(TransportFeed):
    """Its target takes events."""

    def __init__(self) -> None:
        target = opened()
        self.events: list[Event] = []
        target.inject = self.events.append  # type: ignore[attr-defined]
        super().__init__(target)


async def test_events_of_the_stream_go_among_its_media() -> None:
    pictures = [frame for frame in demux(capture("h264-aac"))[0] if frame.track.is_video]
    tag = b"ID3\x04\0\0\0\0\0\0"
    data = with_data(splice_insert(9, pictures[22].pts, out=True), tag, pictures[20].pts)
    feed = Injected()
    for at in range(0, len(data), 1316):
        feed.receive(data[at : at + 1316])
    assert feed.events == [TimedMetadata(tag), Splice(9, True)]
    deaf = TransportFeed(opened())
    deaf.receive(data)
    assert deaf.on_air
