"""Whatever path comes from outside, nothing is opened outside the media root."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest, Forbidden, KilnError, NotFound
from appliance.storage.media_root import macro_value, open_file, open_folder, resolve

ROOT = Path("/srv/kiln/media")

PIECES = [
    "..", ".", "", "a", "%2e%2e", "..\\", "...", "~", "media", "srv", "etc", "-", " ", "\u202e", "a\0b", "é" * 130,
]  # fmt: skip
#: Each piece with each other in front, behind and between; absolute and not: over 500 paths.
CORPUS = [
    prefix + "/".join(pieces) + suffix
    for prefix, suffix in (("", ""), ("/", ""), ("//", "/"), ("/srv/kiln/media/", ""))
    for pieces in itertools.product(PIECES, PIECES)
]


def test_corpus_is_large_enough() -> None:
    assert len(set(CORPUS)) > 500


@pytest.mark.parametrize("block", range(16))
def test_corpus_stays_below_the_root(block: int) -> None:
    for path in CORPUS[block::16]:
        _resolves_below_or_refuses(path)


@given(st.text(st.characters() | st.sampled_from("/.\0"), max_size=60))
def test_any_text_stays_below_the_root(path: str) -> None:
    _resolves_below_or_refuses(path)


def _resolves_below_or_refuses(path: str) -> None:
    try:
        resolved = resolve(ROOT, path)
    except BadRequest:
        return
    assert os.path.normpath(resolved) == str(resolved)
    assert ROOT in resolved.parents
    assert ".." not in path.split("/")
    # What is below the root already stays where it is.
    assert resolve(ROOT, str(resolved)) == resolved


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/tmp/x", "tmp/x"),
        ("tmp/x", "tmp/x"),
        ("/srv/kiln/media/app/x.mp4", "app/x.mp4"),
        ("/srv/kiln/mediocre/x.mp4", "srv/kiln/mediocre/x.mp4"),
        ("//etc//passwd", "etc/passwd"),
        ("./a/./b", "a/b"),
    ],
)
def test_absolute_paths_are_rooted_again(path: str, below: str) -> None:
    assert resolve(ROOT, path) == ROOT / below


@pytest.mark.parametrize(
    "path",
    ["", "/", ".", "..", "../x", "a/../b", "a\0", "a\nb", "x" * 256, "/srv/kiln/media", "a/" * 2100 + "b", "\ud800"],
)
def test_what_names_nothing_or_leads_away_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        resolve(ROOT, path)


@given(st.text(max_size=40))
def test_a_macro_never_changes_the_folder(value: str) -> None:
    put_in = macro_value(value)
    assert "/" not in put_in
    assert not put_in.startswith(".")
    assert len(put_in) == len(value)


def test_folders_are_made_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / "media"
    handle = open_file(root, resolve(root, "/tmp/a/x"), os.O_WRONLY | os.O_CREAT, create_folders=True)
    os.write(handle, b"1")
    os.close(handle)
    assert (root / "tmp/a/x").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["out/x", "in/x", "deep/out/x", "file/x"])
def test_links_and_files_in_the_way_are_refused(tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "media", tmp_path / "outside"
    (root / "deep").mkdir(parents=True)
    outside.mkdir()
    (root / "out").symlink_to(outside)
    (root / "deep/out").symlink_to("../../outside")
    (root / "in").symlink_to("deep")
    (root / "file").write_bytes(b"")
    with pytest.raises(Forbidden):
        open_file(root, resolve(root, path), os.O_WRONLY | os.O_CREAT, create_folders=True)
    assert not list(outside.iterdir())


def test_a_link_at_the_end_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s")
    root = tmp_path / "media"
    root.mkdir()
    (root / "x").symlink_to(secret)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        with pytest.raises(Forbidden):
            open_file(root, root / "x", flags)
    assert secret.read_bytes() == b"s"


def test_what_is_missing_is_not_found(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotFound):
            os.close(open_folder(root, root / "a/b"))


def test_paths_that_were_not_resolved_are_refused(tmp_path: Path) -> None:
    for path in (Path("/etc/passwd"), tmp_path / "../x"):
        with pytest.raises(KilnError):
            open_file(tmp_path, path, os.O_RDONLY)


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to("disk")
    os.close(open_folder(tmp_path / "root", tmp_path / "root/a", create=True))
    assert (tmp_path / "disk/a").is_dir()
