"""What may be a name, and that no path from outside leaves its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest, ConfigError
from appliance.settings.names import NameKind, check_name, media_path

ROOT = Path("/var/lib/kiln/media")


@pytest.mark.parametrize("kind", ["virtual host", "application", "stream", "playlist file", "channel"])
@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 128, "-", "_."])
def test_names_inside_the_grammar(kind: NameKind, name: str) -> None:
    assert check_name(kind, name) == name


@pytest.mark.parametrize("kind", ["virtual host", "application", "stream", "playlist file", "channel"])
@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a b", "a/b", "a#", "ä", "x" * 129, "a\n", "${Name}", "a\0"])
def test_names_outside_the_grammar(kind: NameKind, name: str) -> None:
    with pytest.raises(ConfigError, match=f"Invalid {kind} name") as caught:
        check_name(kind, name)
    assert len(str(caught.value)) < 200
    assert caught.value.hint


def test_macros_stand_for_a_name_where_they_are_allowed() -> None:
    assert check_name("stream", "${OriginStreamName}_p2", macros=True)
    assert check_name("stream", "${Port}", macros=True)
    for wrong in ("${a}/b", "${a b}", "${", "$a"):
        with pytest.raises(ConfigError):
            check_name("stream", wrong, macros=True)


@pytest.mark.parametrize("kind", ["label", "program", "rendition", "profile", "encode", "playlist"])
def test_labels_are_any_text(kind: NameKind) -> None:
    assert check_name(kind, "Größe 1080p / 60 “fast”")
    for wrong in ("", "x" * 129, "a\nb", "\x7f"):
        with pytest.raises(ConfigError):
            check_name(kind, wrong)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/tmp/x", "tmp/x"),
        ("x/y.mp4", "x/y.mp4"),
        ("/var/lib/kiln/media/x", "x"),
        ("/var/lib/kiln/mediaother/x", "var/lib/kiln/mediaother/x"),
        ("/", "."),
        ("//etc/passwd", "etc/passwd"),
        ("a/./b//c/", "a/b/c"),
        ("..a/b..", "..a/b.."),
    ],
)
def test_paths_are_rooted(text: str, path: str) -> None:
    assert media_path(ROOT, text) == ROOT / path


@pytest.mark.parametrize("text", ["..", "../x", "a/../b", "/tmp/..", "/var/lib/kiln/media/../x", "", "a\0b"])
def test_paths_that_lead_out_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        media_path(ROOT, text)


@given(st.text(st.sampled_from("./ab\0\\"), max_size=20))
def test_no_path_leads_out(text: str) -> None:
    try:
        found = media_path(ROOT, text)
    except BadRequest:
        return
    assert found.is_relative_to(ROOT)
    assert ".." not in found.parts
