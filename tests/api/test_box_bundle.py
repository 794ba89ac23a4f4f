"""A support bundle holds no secret, whatever they are and wherever they stand."""

from __future__ import annotations

import base64
import io
import json
import string
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.api.box.bundle import SHORTEST, BundleJob, Mask, is_secret, make
from appliance.api.box.support import found_secrets, task_secrets, url_secrets
from appliance.logs import MASK
from appliance.media.tasks import Push
from appliance.settings import models
from appliance.settings.schema import Node, fields_of
from tests.api.box import open_box

#: Long enough that none comes up by chance.
secrets = st.text(alphabet=string.ascii_letters + string.digits + "+/=&%ä\"\\_-", min_size=10, max_size=40)


def contents(made: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(made)) as bundle:
        return {name.partition("/")[2]: bundle.read(name).decode() for name in bundle.namelist()}


@settings(max_examples=60, deadline=None)
@given(secrets, secrets, secrets)
def test_no_secret_is_in_a_bundle(token: str, stream_key: str, secret_key: str) -> None:
    push = Push("p", "default", "app", "cam", urls=(f"rtmp://live.example/app/{quote(stream_key, safe='')}",),
                stream_key=stream_key)  # fmt: skip
    server = {"alert": {"secretKey": secret_key, "url": "http://a"}, "managers": {"api": {"access_token": token}}}
    vhosts = [{"name": "v", "signedPolicy": {"secretKey": secret_key}, "applications": [{"name": secret_key}]}]
    header = base64.b64encode(token.encode()).decode()
    job = BundleJob(
        documents={"server": server, "virtual-hosts": vhosts, "state": {"error": f"refused by {stream_key}!"}},
        texts={"children": f"push:{token} last_fault={json.dumps(stream_key)}"},
        logs=[[(1.5, 20, "kiln.push", f"push target={push.urls[0]} said={stream_key} header={header}")]],
        secrets=[token, *found_secrets(server), *found_secrets(vhosts), *task_secrets(push)],
        doctor=[], seconds=1.0,
    )  # fmt: skip
    for name, text in contents(make(job)).items():
        for secret in (token, stream_key, secret_key):
            for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
                assert form not in text, name
        assert header not in text
        if name.endswith(".json"):
            json.loads(text)


def secret_fields(model: type[Node], path: str = "") -> list[tuple[str, str]]:
    found = []
    for field in fields_of(model):
        if field.section is not None:
            found += secret_fields(field.section, f"{path}.{field.json}")
        elif is_secret(field.json):
            assert is_secret(field.attr), field.attr
            found.append((f"{path}.{field.json}", field.attr))
    return found


def test_every_secret_of_the_settings_is_known_by_its_name() -> None:
    known = {path.rpartition(".")[2] for path, _ in secret_fields(models.Server)}
    assert {"accessToken", "secretKey", "publishKey", "credential", "auth"} <= known
    for harmless in ("keyFrameInterval", "certPath", "keyPath", "name", "keyFrameIntervalType", "tokens", "author"):
        assert not is_secret(harmless), harmless


def test_values_of_secrets_are_masked_where_they_are_short(tmp_path: Path) -> None:
    mask = Mask(["ab"])
    assert mask.value({"secretKey": "ab", "name": "cab", "publishKey": "", "auth": 7}) == {
        "secretKey": MASK, "name": "cab", "publishKey": "", "auth": MASK
    }  # fmt: skip
    assert len("ab") < SHORTEST


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("rtsp://user:swordfish@camera/1", {"swordfish"}),
        ("rtsp://user:s%40f@camera/1", {"s%40f", "s@f"}),
        ("srt://h:9999?mode=caller&passphrase=0123456789&streamid=abc", {"0123456789", "abc"}),
        ("http://h/x.m3u8?token=t0k&x=1", {"t0k"}),
        ("http://[broken", set()),
        ("file:///x", set()),
    ],
)
def test_secrets_in_urls(url: str, found: set[str]) -> None:
    assert set(url_secrets(url)) == found


async def test_alarms_over_the_api(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        for alarm in list(box.engine.alarms):
            del box.engine.alarms[alarm]
        before = len((await box.ask("GET", "/box/v1/alarms?closed=yes")).json()["response"])
        box.engine.alarms["kiln/capture:default/app/cam"] = "fails again and again"
        box.engine.alarms["port:rtmp"] = "taken"
        shown = await alarms(box, "")
        assert [(each["id"], each["severity"], each["acknowledged"]) for each in shown] == [
            ("kiln/capture:default/app/cam", "error", False), ("port:rtmp", "error", False)
        ]  # fmt: skip
        path = f"/box/v1/alarms/{quote('kiln/capture:default/app/cam', safe='')}:acknowledge"
        assert (await box.ask("POST", path)).json()["response"]["acknowledged"] is True
        assert [each["acknowledged"] for each in await alarms(box, "")] == [True, False]
        assert (await box.ask("POST", "/box/v1/alarms/nope:acknowledge")).status_code == 404
        del box.engine.alarms["kiln/capture:default/app/cam"]
        assert [each["id"] for each in await alarms(box, "?closed=no")] == ["port:rtmp"]
        closed = (await alarms(box, "?closed=yes"))[-1]
        assert (closed["id"], closed["open"]) == ("kiln/capture:default/app/cam", False)
        assert closed["closedTime"] >= closed["since"]
        assert len(await alarms(box, "?closed=yes")) == before + 2
        assert (await box.ask("GET", "/box/v1/alarms?closed=perhaps")).status_code == 400


async def alarms(box: Any, query: str) -> list[dict[str, Any]]:
    answer = await box.ask("GET", f"/box/v1/alarms{query}")
    assert answer.status_code == 200
    shown: list[dict[str, Any]] = answer.json()["response"]
    return shown
