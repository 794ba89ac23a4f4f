"""URLs of pushes, and which tracks go where."""

from __future__ import annotations

import msgspec
import pytest

from appliance.errors import BadRequest, NotFound
from appliance.media.tasks import Push
from appliance.media.track import Codec, MediaType, Track
from appliance.publishers.push.choice import choose
from appliance.publishers.push.destination import destination
from appliance.publishers.push.transport_stream import check_options
from tests.publishers.push.kit import LOOPBACK, push


@pytest.mark.parametrize(
    ("url", "key", "app", "stream"),
    [
        ("rtmp://h.example/live", "key", "live", "key"),
        ("rtmp://h.example/live", "", "live", ""),
        ("rtmp://h.example/live/key", "", "live", "key"),
        ("rtmp://h.example/live/inst/key?a=1&b=2", "", "live/inst", "key?a=1&b=2"),
        ("rtmps://h.example:443/rtmp", "FB-1?s_bl=1&a=x", "rtmp", "FB-1?s_bl=1&a=x"),
        ("rtmp://h.example/live/inst/", "a/b", "live/inst", "a/b"),
        ("rtmp://h.example/live?token=x", "key", "live?token=x", "key"),
    ],
)
def test_application_and_key(url: str, key: str, app: str, stream: str) -> None:
    found = destination(push(url, key=key), url, LOOPBACK)
    assert (found.app, found.key) == (app, stream)


@pytest.mark.parametrize(
    ("protocol", "url", "reason"),
    [
        ("gopher", "gopher://h:1", r"Could not find protocol 'gopher': \[tv/app\]"),
        ("rtmp", "h.example/live", "Could not parse url"),
        ("rtmp", "http://h.example/live", "Unsupported protocol"),
        ("rtmp", "RTMP://h.example/live", "Unsupported protocol"),
        ("srt", "udp://h.example:1", "Unsupported protocol"),
        ("mpegts", "srt://h.example:1", "Unsupported protocol"),
        ("srt", "srt://h.example:1?mode=listener", "Unsupported connection mode"),
        ("srt", "srt://h.example", "names no port"),
        ("srt", "srt://h.example:1?passphrase=short", "10 to 79 characters"),
        ("srt", "srt://h.example:1?pbkeylen=17", "16, 24 or 32"),
        ("srt", "srt://h.example:1?latency=fast", "latency is not a number"),
        ("srt", "srt://h.example:1?transtype=file", "transtype"),
        ("mpegts", "tcp://h.example:1?listen", "Unsupported tcp listen"),
        ("mpegts", "tcp://h.example:1?listen=1", "Unsupported tcp listen"),
        ("mpegts", "udp://h.example:1?pkt_size=10", "pkt_size is not a number from 188"),
        ("mpegts", "udp://h.example:1?ttl=256", "ttl is not a number"),
        ("rtmp", "rtmp://h.example", "names no application"),
        ("rtmp", "rtmp://169.254.169.254/live", "may not be reached"),
        ("srt", "srt://h.example:1?streamid=a%0d%0ab", "control character"),
    ],
)
def test_what_can_never_be_pushed_to_is_refused_with_the_reason(protocol: str, url: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        check_options(destination(push(url, protocol=protocol), url, LOOPBACK))


def test_options_without_effect_are_named() -> None:
    url = "udp://239.1.2.3:5000?ttl=2&fifo_size=5000&overrun_nonfatal=1"
    assert check_options(destination(push(url), url, LOOPBACK)) == ["fifo_size", "overrun_nonfatal"]


def test_srt_takes_the_key_as_stream_id_and_shows_no_secret() -> None:
    url = "srt://h.example:9000?passphrase=correct-horse&latency=200000"
    found = destination(push(url, key="#!::r=cam,m=publish"), url, LOOPBACK)
    assert found.options["streamid"] == "#!::r=cam,m=publish"
    assert found.redacted("no correct-horse for #!::r=cam,m=publish") == "no *** for ***"
    own = "srt://h.example:9000?streamid=publish%2Fcam+1"
    assert destination(push(own, key="k"), own, LOOPBACK).options["streamid"] == "publish/cam 1"


def track(id: int, codec: Codec, variant: str = "") -> Track:
    video = codec in (Codec.H264, Codec.H265, Codec.VP8, Codec.AV1, Codec.JPEG)
    media = MediaType.VIDEO if video else MediaType.AUDIO
    return Track(id=id, media=media, codec=codec, timescale=90000, variant=variant or f"v{id}")


LADDER = [
    track(0, Codec.VP8), track(3, Codec.H264, "sd"), track(1, Codec.H265, "uhd"), track(2, Codec.H264, "hd"),
    track(4, Codec.OPUS, "opus"), track(5, Codec.AAC, "aac"), track(6, Codec.AAC, "aac2"), track(7, Codec.JPEG),
]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "names", "ids", "chosen"),
    [
        ("rtmp://h/app", (), (), [2, 5]),
        ("rtmp://h/app", ("uhd", "opus"), (), [1, 4]),
        ("rtmp://h/app", ("uhd", "sd", "aac2"), (), [3, 6]),
        ("rtmp://h/app", ("aac",), (), [5]),
        ("rtmp://h/app", (), (3, 6), [3, 6]),
        ("srt://h:1", (), (), [3, 1, 2, 4, 5, 6]),
        ("udp://h:1", ("hd", "aac"), (), [2, 5]),
    ],
)
def test_each_protocol_chooses_its_tracks(
    url: str, names: tuple[str, ...], ids: tuple[int, ...], chosen: list[int]
) -> None:
    task = push(url, variant_names=names, track_ids=ids)
    assert [each.id for each in choose(task, LADDER)] == chosen


def test_nothing_to_send_is_told() -> None:
    task: Push = push("rtmp://h/app", variant_names=("4k",))
    with pytest.raises(NotFound, match="tv/app/cam#p: the stream has no such track: 4k"):
        choose(task, LADDER)
    with pytest.raises(BadRequest, match="rtmp can't carry VP8"):
        choose(push("rtmp://h/app"), [LADDER[0]])
    with pytest.raises(BadRequest, match="srt can't carry JPEG, VP8"):
        choose(push("srt://h:1"), [LADDER[0], msgspec.structs.replace(LADDER[7])])
