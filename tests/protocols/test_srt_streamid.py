"""Stream ids of SRT in all their forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.srt_streamid import parse_stream_id, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "default/app/cam", "default%2Fapp%2Fcam", "srt://default/app/cam", "srt%3A%2F%2Fdefault%2Fapp%2Fcam",
        "SRT://default:9999/app/cam", "#!::u=default/app/cam", "#!::u=srt%3A//default/app/cam,m=publish",
        "#!::r=default/app/cam,m=publish", "#!::m=publish,h=default,r=app/cam", "default:9999/app/cam",
    ],
)  # fmt: skip
def test_forms_of_one_stream(text: str) -> None:
    found = parse_stream_id(text)
    assert (found.host, found.app, found.stream, found.playlist) == ("default", "app", "cam", "")


@pytest.mark.parametrize(
    ("text", "playlist", "key", "mode"),
    [
        ("default/app/cam/master?key=a%20b&x=1", "master", "a b", ""),
        ("srt%3A%2F%2Fhost%2Fapp%2Fcam%3Fkey%3Dsecret", "", "secret", ""),
        ("#!::r=host/app/cam/low,m=request,key=s+t", "low", "s+t", "request"),
        ("[2001:db8::1]:9999/app/cam?a&key=k", "", "k", ""),
    ],
)
def test_playlist_and_parameters(text: str, playlist: str, key: str, mode: str) -> None:
    found = parse_stream_id(text)
    assert (found.playlist, found.parameter("key"), found.mode) == (playlist, key, mode)
    assert found.parameter("no") == ""


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "a", "a/b", "/a/b/c", "a//b", "a/b/c/d/e", "http://a/b/c", "#!::", "#!::m=publish",
        "#!::r=a/b,m=steal", "#!::r=a/b", "#!::rubbish", "a/b/c%0d%0alog=forged", "#!::r=a/b/%00", "x" * 513,
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_stream_id(text)


@pytest.mark.parametrize(
    "text",
    ["a/b/c?key=secret", "srt%3A%2F%2Fa%2Fb%2Fc%3Fkey%3Dsecret", "#!::key=secret,r=a/b/c", "#!::r=a/b/c%3Fkey=secret"],
)
def test_a_log_has_no_keys(text: str) -> None:
    shown = without_secrets(text)
    assert "secret" not in shown
    assert "a/b/c" in shown


@given(st.text(max_size=600) | st.text("#!:,=/?&%rumh25F", max_size=60).map("#!::".__add__))
def test_whatever_comes_it_is_read_or_refused(text: str) -> None:
    try:
        found = parse_stream_id(text)
    except RemoteProtocolError:
        return
    assert found.host
    assert found.app
    assert found.stream
    assert f"{found.host}{found.app}{found.stream}".isprintable()
