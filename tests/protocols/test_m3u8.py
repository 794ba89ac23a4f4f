"""Playlists: what they say, what is no playlist, and the same result however the bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.m3u8 import ByteRange, Key, Map, MasterPlaylist, MediaPlaylist, PlaylistReader, Variant

MEDIA = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:41
#EXT-X-DISCONTINUITY-SEQUENCE:7
#EXT-X-MAP:URI="init.mp4",BYTERANGE="720@0"
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-KEY:METHOD=AES-128,URI="https://keys/k?a=1,b",IV=0x0A
#EXTINF:6.006,a title, with commas
#EXT-X-BYTERANGE:1000@720
all.mp4
#EXTINF:4
#EXT-X-BYTERANGE:500
all.mp4
#EXT-X-DISCONTINUITY
#EXT-X-KEY:METHOD=NONE
# a comment

#EXTINF:5.5,
#EXT-X-GAP
next.mp4?x=1
#EXT-X-ENDLIST
"""

MASTER = """#EXTM3U
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="en",DEFAULT=YES,LANGUAGE="en",URI="en.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="fr",URI="fr.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="sub",NAME="en",URI="sub.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2628000,RESOLUTION=1280x720,CODECS="avc1.64001f,mp4a.40.2",AUDIO="aac"
720.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=128000, CODECS="mp4a.40.2"
sound.m3u8
"""


def read(text: str | bytes, step: int = 1 << 30) -> MasterPlaylist | MediaPlaylist:
    data = text.encode() if isinstance(text, str) else text
    reader = PlaylistReader()
    for at in range(0, len(data), step):
        reader.receive_data(data[at : at + step])
    return reader.finish()


def test_a_media_playlist() -> None:
    playlist = read(MEDIA)
    assert isinstance(playlist, MediaPlaylist)
    assert (playlist.target, playlist.sequence, playlist.ended) == (6.0, 41, True)
    first, second, third = playlist.segments
    key = Key("AES-128", "https://keys/k?a=1,b", bytes(15) + b"\x0a")
    assert (first.number, first.epoch, first.uri, first.duration) == (41, 7, "all.mp4", 6.006)
    # The key came after the map: it is not the map's.
    assert (first.map, first.key) == (Map("init.mp4", ByteRange(720, 0)), key)
    assert (first.range, second.range, third.range) == (ByteRange(1000, 720), ByteRange(500, 1720), None)
    assert (third.number, third.epoch, third.uri, third.key, third.gap) == (43, 8, "next.mp4?x=1", None, True)


def test_a_master_playlist() -> None:
    playlist = read(MASTER)
    assert isinstance(playlist, MasterPlaylist)
    assert playlist.variants == [
        Variant("720.m3u8", 2_628_000, ("avc1.64001f", "mp4a.40.2"), "aac"),
        Variant("sound.m3u8", 128_000, ("mp4a.40.2",)),
    ]  # fmt: skip
    assert [(each.group, each.name, each.uri, each.language, each.default) for each in playlist.audio] == [
        ("aac", "en", "en.m3u8", "en", True), ("aac", "fr", "fr.m3u8", "", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("<html>", "does not begin with #EXTM3U"),
        ("concat:/etc/passwd|http://x/", "does not begin with #EXTM3U"),
        (b"\xff\xfe#", "not UTF-8"),
        ("#EXTM3U\n", "no EXT-X-TARGETDURATION"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:6\nhttp://x/\n", "without EXTINF"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:1,\n", "ends where a URI is due"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:six\n", "EXT-X-TARGETDURATION that is no number"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:0\n", "EXT-X-TARGETDURATION is 0"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:99999\n", "EXT-X-TARGETDURATION is 99999"),
        ("#EXTM3U\n#EXTINF:-1,\nx\n", "no duration"),
        ("#EXTM3U\n#EXTINF:nan,\nx\n", "no duration"),
        ("#EXTM3U\n#EXTINF:1e9,\nx\n", "no duration"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:1,\n#EXT-X-BYTERANGE:5\nx\n", "without an offset"),
        ("#EXTM3U\n#EXT-X-BYTERANGE:5@x\n", "EXT-X-BYTERANGE that is none"),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\n', "without METHOD or URI"),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xZZ\n', "IV is none"),
        ('#EXTM3U\n#EXT-X-MAP:URI="x\n', "broken attribute list"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"avc1\"\nx\n", "BANDWIDTH that is no number"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx\n#EXT-X-TARGETDURATION:6\n", "at once"),
        ('#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="x"\n', "no variants"),
        ("#EXTM3U\n" + "#" + "x" * 20_000, "line that is too long"),
        ("#EXTM3U\n" + "#EXTINF:1,\nx\n" * 50_001, "more than 50000 segments"),
        ("#EXTM3U\n" + "#EXT-X-STREAM-INF:BANDWIDTH=1\nx\n" * 10_000, "more than 1000 variants"),
        ("#EXTM3U\n" + "#\n" * (2 << 20), "longer than 4 MiB"),
    ],
)  # fmt: skip
def test_what_is_no_playlist(text: str | bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        read(text, 65536)


@pytest.mark.parametrize("text", [MEDIA, MASTER, MEDIA.replace("\n", "\r\n")])
@given(step=st.integers(1, 70))
def test_in_any_pieces(text: str, step: int) -> None:
    assert read(text, step) == read(text)


LINES = st.sampled_from([*MEDIA.splitlines(), *MASTER.splitlines(), "", "#EXT-X-KEY:,", "#EXTINF:", "\x00", "x"])


@given(st.lists(LINES | st.text(max_size=40), max_size=30), st.integers(1, 50))
def test_whatever_it_says_it_is_read_or_refused(lines: list[str], step: int) -> None:
    data = "\n".join(["#EXTM3U", *lines]).encode("utf-8", "surrogatepass")

    def outcome(step: int) -> object:
        try:
            return read(data, step)
        except RemoteProtocolError as error:
            return str(error)

    assert outcome(step) == outcome(1 << 30)
