"""Named tokens over the API, and what each role may do."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.access.guessing import FREE
from appliance.api.management import HOLD
from tests.api.box import Box, open_box

ROOT = "/box/v1/tokens"


def shown(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(token.encode()).decode()}


async def make(box: Box, name: str, role: str) -> dict[str, str]:
    """The headers of somebody who has the new token."""
    answer = await box.ask("POST", ROOT, body={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    return shown(answer.json()["response"]["token"])


async def test_a_token_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        headers = await make(box, "anna", "viewer")
        assert (await box.ask("GET", "/v1/vhosts", headers)).status_code == 200
        listed = await box.ask("GET", ROOT)
        (anna,) = listed.json()["response"]
        assert (anna["name"], anna["role"], sorted(anna)) == ("anna", "viewer", ["createdTime", "name", "role"])
        assert (await box.ask("DELETE", f"{ROOT}/anna")).status_code == 200
        assert (await box.ask("GET", "/v1/vhosts", headers)).status_code == 401
        assert (await box.ask("DELETE", f"{ROOT}/anna")).status_code == 404


async def test_a_role_opens_what_it_says(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        for role in ("viewer", "operator"):
            headers = await make(box, role, role)
            assert (await box.ask("GET", "/v1/version", headers)).status_code == 200
            refused = await box.ask("GET", ROOT, headers)
            assert refused.status_code == 403
            assert refused.json()["message"] == f"[HTTP] This needs the role admin, the token has {role} (403)"
        admin = await make(box, "second", "admin")
        assert (await box.ask("GET", ROOT, admin)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [None, [], "anna", {}, {"name": "anna"}, {"role": "admin"}, {"name": 5, "role": "admin"},
     {"name": "a", "role": None}, {"name": "anna", "role": "king"}, {"name": "a/b", "role": "admin"},
     {"name": "", "role": "admin"}, {"name": "anna", "role": "admin", "scope": "all"}, b"{", b"\xff"],
)  # fmt: skip
async def test_a_bad_request_makes_nothing(tmp_path: Path, body: object) -> None:
    async with open_box(tmp_path) as box:
        answer = await box.ask("POST", ROOT, body=body)
        assert answer.status_code == 400
        assert len(answer.json()["message"]) > len("[HTTP]  (400)")
        assert (await box.ask("GET", ROOT)).json()["response"] == []


async def test_a_name_is_taken_once(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        await make(box, "anna", "viewer")
        assert (await box.ask("POST", ROOT, body={"name": "anna", "role": "admin"})).status_code == 409


async def test_one_bad_token_too_many_is_held_back_and_a_good_one_is_not(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_box(tmp_path) as box:
        for _ in range(FREE):
            assert (await box.ask("GET", "/v1/vhosts", shown("guess"))).status_code == 401
        began = trio.current_time()
        refused = await box.ask("GET", "/v1/vhosts", shown("guess"))
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert trio.current_time() - began >= HOLD
        began = trio.current_time()
        assert (await box.ask("GET", "/v1/vhosts")).status_code == 200
        assert trio.current_time() == began
