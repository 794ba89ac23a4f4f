"""Session descriptions as cameras write them, and broken ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols import sdp

CAMERA = b"""v=0\r
o=- 1 1 IN IP4 192.0.2.5\r
s=Media Presentation\r
a=control:rtsp://192.0.2.5/live/\r
t=0 0\r
m=video 0 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 profile-level-id=64001F; packetization-mode=1;sprop-parameter-sets=Z2QAH6w=,aO48gA==\r
a=control:trackID=1\r
m=audio 0 RTP/AVP 97\r
a=control:trackID=2\r
a=rtpmap:97 mpeg4-generic/48000/2\r
a=fmtp:97 streamtype=5;mode=AAC-hbr;config=1190;sizeLength=13;indexLength=3;indexDeltaLength=3\r
m=audio 0 RTP/AVP 8\r
a=control:trackID=3\r
m=application 0 RTP/AVP 107\r
a=rtpmap:107 vnd.onvif.metadata/90000\r
"""


def test_a_camera_is_understood() -> None:
    described = sdp.parse(CAMERA)
    assert described.control == "rtsp://192.0.2.5/live/"
    video, aac, pcma, metadata = described.media
    assert (video.kind, video.payload_type, video.encoding, video.clock) == ("video", 96, "H264", 90_000)
    assert video.control == "trackID=1"
    assert video.parameters["sprop-parameter-sets"] == "Z2QAH6w=,aO48gA=="
    assert video.parameters["packetization-mode"] == "1"
    assert (aac.encoding, aac.clock, aac.channels) == ("MPEG4-GENERIC", 48_000, 2)
    assert aac.parameters["sizelength"] == "13"
    assert (pcma.encoding, pcma.clock, pcma.channels, pcma.control) == ("PCMA", 8000, 1, "trackID=3")
    assert metadata.encoding == "VND.ONVIF.METADATA"


def test_line_ends_of_every_kind_and_lines_of_no_kind() -> None:
    assert sdp.parse(CAMERA.replace(b"\r\n", b"\n")) == sdp.parse(CAMERA)
    assert sdp.parse(b"nonsense\n\nx\n" + CAMERA) == sdp.parse(CAMERA)


def test_a_medium_without_a_payload_type_is_left_out() -> None:
    assert sdp.parse(b"m=video 0 RTP/AVP\nm=audio 0 RTP/AVP 0\n").media[0].encoding == "PCMU"


@pytest.mark.parametrize(
    "text",
    [b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264", b"m=video 0 RTP/AVP 96\na=rtpmap:x H264/90000",
     b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/0", b"m=audio 0 RTP/AVP 96\na=rtpmap:96 L16/44100/999",
     b"m=video 0 RTP/AVP 96\n" * 33, b"a=" + b"x" * sdp.LARGEST],
)  # fmt: skip
def test_what_is_broken_is_refused(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        sdp.parse(text)


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for text in (data, CAMERA[: len(CAMERA) // 2] + data):
        try:
            sdp.parse(text)
        except RemoteProtocolError:
            pass
