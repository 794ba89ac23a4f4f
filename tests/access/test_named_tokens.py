"""Named tokens: made, found, revoked, kept over a restart, never kept in plain."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.access.named_tokens import KIND, NamedTokens
from appliance.access.roles import Caller, Role
from appliance.errors import ConfigError, NameTaken, NotFound
from appliance.settings.store import Store


async def loaded(store: Store) -> NamedTokens:
    tokens = NamedTokens(store)
    await tokens.load()
    return tokens


async def test_a_token_opens_with_its_role_also_after_a_restart(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "kiln.sqlite")
    tokens = await loaded(store)
    plain = await tokens.add("van.1", Role.OPERATOR, 5)
    assert tokens.find(plain.encode()) == Caller("van.1", Role.OPERATOR)
    await store.close()
    store = await Store.open(tmp_path / "kiln.sqlite")
    again = await loaded(store)
    found = again.find(plain.encode())
    assert found == Caller("van.1", Role.OPERATOR)
    assert found.may(Role.VIEWER)
    assert found.may(Role.OPERATOR)
    assert not found.may(Role.ADMIN)
    assert [(each.name, each.role, each.created) for each in again] == [("van.1", Role.OPERATOR, 5)]
    await store.close()


async def test_what_is_kept_does_not_hold_the_token(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "kiln.sqlite")
    plain = await (await loaded(store)).add("anna", Role.ADMIN, 5)
    kept = (await store.list(KIND))["anna"]
    assert plain.encode() not in kept
    assert plain.rpartition(".")[2].encode() not in kept
    await store.close()


async def test_a_revoked_token_opens_nothing(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "kiln.sqlite")
    tokens = await loaded(store)
    plain = await tokens.add("anna", Role.ADMIN, 5)
    await tokens.revoke("anna")
    assert tokens.find(plain.encode()) is None
    assert (await loaded(store)).find(plain.encode()) is None
    with pytest.raises(NotFound):
        await tokens.revoke("anna")
    await store.close()


async def test_a_name_is_taken_once_and_has_a_grammar(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "kiln.sqlite")
    tokens = await loaded(store)
    await tokens.add("anna", Role.VIEWER, 5)
    with pytest.raises(NameTaken):
        await tokens.add("anna", Role.ADMIN, 5)
    for name in ("", ".x", "a b", "x/y", "x" * 129):
        with pytest.raises(ConfigError):
            await tokens.add(name, Role.ADMIN, 5)
    await store.close()


async def test_nearly_the_token_is_nobodys(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "kiln.sqlite")
    tokens = await loaded(store)
    plain = await tokens.add("anna", Role.ADMIN, 5)
    for wrong in ("", "anna", "anna.", plain[:-1], plain + "x", plain.replace("anna", "berta"), "\udcff.x"):
        assert tokens.find(wrong.encode("utf-8", "surrogateescape")) is None
    await store.close()


async def test_a_damaged_entry_is_left_out_and_the_rest_holds(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "kiln.sqlite")
    plain = await (await loaded(store)).add("anna", Role.ADMIN, 5)
    for name, value in {"b": b"no json", "c": b'{"role":"king","sha256":"00","created":1}', "d": b"[]"}.items():
        await store.put(KIND, name, value)
    again = await loaded(store)
    assert [each.name for each in again] == ["anna"]
    assert again.find(plain.encode()) is not None
    await store.close()
