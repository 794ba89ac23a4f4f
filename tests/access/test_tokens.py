"""Where the access token comes from, and that only it opens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access.tokens import FILE_NAME, AccessToken
from appliance.settings.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "kiln.db")
    yield opened
    await opened.close()


async def test_the_first_start_makes_one_and_the_next_finds_it(tmp_path: Path, store: Store) -> None:
    first = await AccessToken.load(tmp_path, {}, "", store)
    file = tmp_path / FILE_NAME
    assert first.origin == "new"
    assert first.plain is not None
    assert len(first.plain) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == first.plain + "\n"
    again = await AccessToken.load(tmp_path, {}, "", store)
    assert (again.origin, again.plain, again.path) == ("file", first.plain, file)
    assert again.matches(first.plain.encode())
    other = await AccessToken.load(tmp_path / "other", {}, "")
    assert other.plain != first.plain


async def test_the_environment_comes_before_the_file_and_server_xml_between(tmp_path: Path) -> None:
    stored = await AccessToken.load(tmp_path, {})
    declared = await AccessToken.load(tmp_path, {"KILN_ACCESS_TOKEN": ""}, "from-xml")
    given = await AccessToken.load(tmp_path, {"KILN_ACCESS_TOKEN": "from-env"}, "from-xml")
    assert [token.origin for token in (stored, declared, given)] == ["new", "Server.xml", "environment"]
    assert declared.matches(b"from-xml")
    assert given.matches(b"from-env")
    assert not given.matches(b"from-xml")
    assert stored.plain is not None
    assert not declared.matches(stored.plain.encode())


async def test_a_given_token_leaves_no_trace(tmp_path: Path, store: Store) -> None:
    await AccessToken.load(tmp_path, {"KILN_ACCESS_TOKEN": "from-env"}, "", store)
    assert not (tmp_path / FILE_NAME).exists()
    assert await store.list("access") == {}


async def test_holds_by_its_hash_when_the_file_is_taken_away(tmp_path: Path, store: Store) -> None:
    first = await AccessToken.load(tmp_path, {}, "", store)
    assert first.plain is not None
    (tmp_path / FILE_NAME).unlink()
    later = await AccessToken.load(tmp_path, {}, "", store)
    assert (later.origin, later.plain) == ("store", None)
    assert later.matches(first.plain.encode())
    assert not later.matches(b"")
    assert not (tmp_path / FILE_NAME).exists()
    assert all(first.plain.encode() not in value for value in (await store.list("access")).values())


async def test_an_edited_file_is_the_new_token(tmp_path: Path, store: Store) -> None:
    await AccessToken.load(tmp_path, {}, "", store)
    (tmp_path / FILE_NAME).write_text("another token\n")
    edited = await AccessToken.load(tmp_path, {}, "", store)
    assert edited.matches(b"another token")
    (tmp_path / FILE_NAME).unlink()
    assert (await AccessToken.load(tmp_path, {}, "", store)).matches(b"another token")


@pytest.mark.parametrize("content", ["", "\n", "short"])
async def test_a_damaged_file_never_opens_the_box(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    (tmp_path / FILE_NAME).chmod(0o600)
    token = await AccessToken.load(tmp_path, {})
    assert token.origin == "new"
    assert "holds no token" in token.warnings[0]
    assert not token.matches(content.strip().encode())


async def test_a_file_open_to_others_is_closed(tmp_path: Path) -> None:
    await AccessToken.load(tmp_path, {})
    (tmp_path / FILE_NAME).chmod(0o644)
    token = await AccessToken.load(tmp_path, {})
    assert "was open to others" in token.warnings[0]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("someone else's secret")
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "secret")
    token = await AccessToken.load(tmp_path, {})
    assert token.origin == "new"
    assert (tmp_path / "secret").read_text() == "someone else's secret"


async def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    token = await AccessToken.load(tmp_path / "file", {})
    assert token.origin == "new"
    assert "can't be written" in token.warnings[-1]
    assert token.plain
    assert token.matches(token.plain.encode())


async def test_is_not_shown_by_accident(tmp_path: Path) -> None:
    token = await AccessToken.load(tmp_path, {"KILN_ACCESS_TOKEN": "from-env"})
    assert "from-env" not in repr(token)
    assert token.digest.hex() not in repr(token)


@given(st.binary(max_size=64))
def test_matches_nothing_else(candidate: bytes) -> None:
    from appliance.access.tokens import _of

    token = _of("a" * 43, "file", Path("/nowhere"))
    assert token.matches(candidate) is (candidate == b"a" * 43)
