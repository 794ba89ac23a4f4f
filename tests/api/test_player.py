"""The parsers of the page's player, run by Node.js on playlists as the box writes them."""

from __future__ import annotations

import json
import subprocess
from importlib import resources
from typing import Any

import pytest

pytestmark = pytest.mark.needs("node")

MASTER = """#EXTM3U
#EXT-X-VERSION:10
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="German, loud",DEFAULT=NO,AUTOSELECT=YES,URI="chunklist_2_audio.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="English",DEFAULT=YES,AUTOSELECT=YES,URI="chunklist_1_audio.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2628000,RESOLUTION=1280x720,FRAME-RATE=30.000,CODECS="avc1.64001f,mp4a.40.2",AUDIO="aac"
~7/chunklist_0_video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS="mp4a.40.2"
chunklist_1_audio.m3u8
"""

MEDIA = """#EXTM3U
#EXT-X-VERSION:10
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.500000
#EXT-X-PART-INF:PART-TARGET=0.500000
#EXT-X-MEDIA-SEQUENCE:12
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI="init_0.m4s"
#EXT-X-PROGRAM-DATE-TIME:2026-01-20T10:00:00.000+00:00
#EXTINF:2.000000,
seg_0_12.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init_1.m4s"
#EXT-X-PROGRAM-DATE-TIME:2026-01-20T10:00:02.000+00:00
#EXT-X-PART:DURATION=0.500000,URI="part_0_13_0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.500000,URI="part_0_13_1.m4s"
#EXT-X-PART:DURATION=0.500000,URI="part_0_13_2.m4s"
#EXT-X-PART:DURATION=0.500000,URI="part_0_13_3.m4s"
#EXTINF:2.000000,
seg_0_13.m4s
#EXT-X-PART:DURATION=0.500000,URI="part_0_14_0.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part_0_14_1.m4s"
#EXT-X-RENDITION-REPORT:URI="chunklist_1_audio.m3u8",LAST-MSN=14,LAST-PART=0
"""


def run(expression: str, **values: object) -> Any:
    """What ``expression`` is in JavaScript, with the player's functions and ``values`` at hand."""
    program = (
        f"{resources.files('appliance.api').joinpath('player.js').read_text()}\n"
        f"const {{{', '.join(values)}}} = {json.dumps(values)};\n"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_master() -> None:
    master = run("parseMaster(text, 'http://box:3333/app/cam/llhls.m3u8')", text=MASTER)
    assert master["variants"] == [
        {
            "uri": "http://box:3333/app/cam/~7/chunklist_0_video.m3u8",
            "bandwidth": 2628000,
            "audioGroup": "aac",
            "video": "avc1.64001f",
            "audio": "mp4a.40.2",
        },
        {
            "uri": "http://box:3333/app/cam/chunklist_1_audio.m3u8",
            "bandwidth": 128000,
            "audioGroup": "",
            "video": "",
            "audio": "mp4a.40.2",
        },
    ]
    assert [entry["name"] for entry in master["audio"]["aac"]] == ["English", "German, loud"]


def test_media() -> None:
    media = run("parseMedia(text, 'http://box/app/cam/chunklist_0_video.m3u8')", text=MEDIA)
    assert (media["target"], media["partTarget"], media["holdBack"], media["blocks"]) == (2, 0.5, 1.5, True)
    assert media["next"] == {"msn": 14, "part": 1}
    assert media["ended"] is False
    chunks = [(each["msn"], each["part"], each["uri"].rpartition("/")[2]) for each in media["chunks"]]
    assert chunks == [
        (12, 0, "seg_0_12.m4s"),
        (13, 0, "part_0_13_0.m4s"),
        (13, 1, "part_0_13_1.m4s"),
        (13, 2, "part_0_13_2.m4s"),
        (13, 3, "part_0_13_3.m4s"),
        (14, 0, "part_0_14_0.m4s"),
    ]
    assert [each["discontinuity"] for each in media["chunks"]] == [3, 4, 4, 4, 4, 4]
    assert {each["map"].rpartition("/")[2] for each in media["chunks"][1:]} == {"init_1.m4s"}
    assert media["chunks"][-1]["date"] - media["chunks"][0]["date"] == 4000


@pytest.mark.parametrize(
    ("after", "names"),
    [
        (None, ["part_0_13_0", "part_0_13_1", "part_0_13_2", "part_0_13_3", "part_0_14_0"]),
        ({"msn": 13, "part": 2}, ["part_0_13_2", "part_0_13_3", "part_0_14_0"]),
        ({"msn": 14, "part": 1}, []),
        ({"msn": 12, "part": 1}, ["part_0_13_0", "part_0_13_1", "part_0_13_2", "part_0_13_3", "part_0_14_0"]),
        ({"msn": 12, "part": 0}, ["seg_0_12", *(f"part_0_13_{part}" for part in range(4)), "part_0_14_0"]),
    ],
)
def test_what_is_loaded_next(after: object, names: list[str]) -> None:
    chosen = run("wanted(parseMedia(text, 'http://box/c.m3u8'), after, 1.5)", text=MEDIA, after=after)
    assert [each["uri"].rpartition("/")[2].removesuffix(".m4s") for each in chosen] == names


def test_a_newcomer_near_the_edge_starts_at_the_newest_independent_part() -> None:
    chosen = run("wanted(parseMedia(text, 'http://box/c.m3u8'), null, 0.4)", text=MEDIA)
    assert [each["uri"] for each in chosen] == ["http://box/part_0_14_0.m4s"]


def test_the_end() -> None:
    assert run("parseMedia(text, 'http://box/c.m3u8').ended", text=MEDIA + "#EXT-X-ENDLIST\n") is True
