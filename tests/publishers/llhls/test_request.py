"""How a request for a stream's file is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.publishers.front import split_path
from appliance.publishers.llhls.delivery import claims
from appliance.publishers.llhls.request import parse_directives
from appliance.publishers.rendered import takes_gzip


@given(st.binary(max_size=100))
def test_directives_are_read_or_refused(query: bytes) -> None:
    try:
        found = parse_directives(query)
    except BadRequest:
        return
    assert found.msn >= -1
    assert found.part == -1 or found.msn >= 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app/s/f.m3u8", ("app", "s", "", "f.m3u8")),
        ("/app/s/~x1/f.m3u8", ("app", "s", "x1", "f.m3u8")),
        ("/app/s/x1/f.m3u8", None),
        ("/app/s/", None),
        ("/app/s", None),
        ("", None),
        ("/a/b/~c/d/e", None),
    ],
)
def test_paths(path: str, expected: object) -> None:
    assert split_path(path) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"gzip", True),
        (b"gzip, deflate, br", True),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        (b"*", True),
        (b"deflate, gzip;q=0", False),
        (b"gzip; q=0.0, *", False),
        (b"identity", False),
        (b"*;q=0", False),
        (b"gzipped", False),
        (b"gzip;q=0, deflate", False),
        (b"", False),
    ],
)
def test_who_takes_gzip(accept: bytes, expected: bool) -> None:
    assert takes_gzip(accept) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app/s/llhls.m3u8", True),
        ("/app/s/part_0_1_2_video_k_llhls.m4s", True),
        ("/app/s/ts:playlist.m3u8", False),
        ("/app/s/medialist_1_hls.m3u8", False),
        ("/app/s/seg_1_2_hls.ts", False),
        ("/app/s/thumb.jpg", False),
        ("/", False),
    ],
)
def test_which_names_are_ours(path: str, expected: bool) -> None:
    assert claims(path) is expected
