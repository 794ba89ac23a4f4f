"""The words between engine and worker: the same in any pieces, and nonsense is refused."""

from __future__ import annotations

import os
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder import messages
from appliance.transcoder.messages import Frame, MediaFrame
from appliance.transcoder.spec import RenditionSpec

SPEC = RenditionSpec(id=1, input_id=0, kind="video", codec=Codec.H264, bitrate=1_000_000, modules=("nv", "default"))
TO_WORKER: list[messages.ToWorker] = [
    messages.Configure("v/a/s", 123456789012345, None, [SPEC], 5),
    messages.SetRenditions([]),
    messages.ForceKeyFrame(),
    messages.SetBitrate(1, 2),
    messages.Stop(),
]
FROM_WORKER: list[messages.FromWorker] = [
    messages.Ready(1),
    messages.Progress(1, 2, 3, 4, 5),
    messages.Stats(1.5, 2, 3, 4, 5, [messages.RenditionStats(id=0, dropped=7)]),
    messages.Fault("why", 3, True),
]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(0, 10_000)))
def test_control_messages_arrive_whole_in_any_pieces(cuts: list[int]) -> None:
    engine, worker = messages.WorkerControl(), messages.EngineControl()
    parts = pieces(b"".join(map(messages.pack_control, FROM_WORKER)), cuts)
    heard = [message for part in parts for message in engine.receive_data(part)]
    assert heard == FROM_WORKER
    parts = pieces(b"".join(map(messages.pack_control, TO_WORKER)), cuts)
    told = [message for part in parts for message in worker.receive_data(part)]
    assert told == TO_WORKER


PACKETS = st.tuples(st.integers(0, 65535), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.binary(max_size=300))


@given(
    st.lists(PACKETS, max_size=8),
    st.lists(st.integers(0, 10_000)),
)
def test_media_frames_arrive_whole_in_any_pieces(packets: list[tuple[int, int, bool, bytes]], cuts: list[int]) -> None:
    data = b"".join(messages.packet_head(id, pts, pts, 9, key, len(body)) + body for id, pts, key, body in packets)
    receiver = messages.MediaReceiver()
    frames = [frame for part in pieces(data, cuts) for frame in receiver.receive_data(part)]
    assert frames == [MediaFrame(Frame.PACKET, key, id, pts, pts, 9, body) for id, pts, key, body in packets]


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_raise_one_error(data: bytes) -> None:
    for receive in (messages.WorkerControl().receive_data, messages.EngineControl().receive_data,
                    messages.MediaReceiver().receive_data):  # fmt: skip
        try:
            list(receive(data))
        except RemoteProtocolError:
            pass


def test_lengths_are_bounded() -> None:
    with pytest.raises(RemoteProtocolError, match="control message"):
        list(messages.WorkerControl().receive_data(b"\xff\xff\xff\x7f"))
    with pytest.raises(RemoteProtocolError, match="media frame"):
        messages.MediaReceiver().receive_data(messages.packet_head(0, 0, 0, 0, False, 2**31))
    with pytest.raises(RemoteProtocolError, match="media frame of kind 9"):
        messages.MediaReceiver().receive_data(messages.HEAD.pack(0, 9, 0, 0, 0, 0, 0))


def test_tracks_come_through_and_nonsense_does_not() -> None:
    track = Track(id=3, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=os.urandom(40), width=16)
    (frame,) = messages.MediaReceiver().receive_data(messages.pack_track(track))
    assert (frame.kind, frame.track) == (Frame.TRACK, 3)
    assert msgspec.structs.asdict(messages.unpack_track(frame.payload)) == msgspec.structs.asdict(track)
    with pytest.raises(RemoteProtocolError):
        messages.unpack_track(b"\x01")
    with pytest.raises(RemoteProtocolError):
        messages.unpack_encoded_track(b"\xc1")
