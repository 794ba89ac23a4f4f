"""Virtual hosts, applications and output profiles over the API: one class a route, and what is kept of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from appliance.access.roles import Role
from appliance.api.ome.applications import FILLED
from appliance.api.ome.secrets import shown_to
from appliance.engine.application import Application
from appliance.engine.configuration import Stored
from appliance.net.tls import self_signed
from appliance.settings import models
from appliance.settings.xml import DEFAULT_XML
from tests.api.box import RECORDED, Box, open_box
from tests.api.configured import APPS, BYPASS, PROFILES, READ_ONLY, make, message, told


class TestCreateVhosts:
    async def test_each_element_has_its_result(self, box: Box) -> None:
        status, results = await told(
            box, "POST", "/v1/vhosts", [{"name": "a"}, {"name": "default"}, {"name": "a"}, "x", {"name": "b", "foo": 1}]
        )
        assert status == 207
        assert results == [
            {"message": "OK", "response": {"name": "a"}, "statusCode": 200},
            {"message": "The virtual host already exists: [default]", "statusCode": 409},
            {"message": "The virtual host already exists: [a]", "statusCode": 409},
            {"message": "[Config] virtualHost.name is not optional", "statusCode": 400},
            {"message": "[Config] Unknown item found: virtualHost.foo", "statusCode": 400},
        ]
        assert (await told(box, "GET", "/v1/vhosts"))[1]["response"] == ["default", "a"]

    @pytest.mark.parametrize("name", ["", ".a", "a/b", "a b", "ä", "a" * 129, "a:b", "*"])
    async def test_names_have_a_grammar(self, box: Box, name: str) -> None:
        status, results = await told(box, "POST", "/v1/vhosts", [{"name": name}])
        assert (status, results[0]["message"].split(":")[0]) == (400, "[Config] Invalid virtual host name")

    async def test_its_applications_are_as_they_are_written_and_are_not_answered(self, box: Box) -> None:
        vhost = {"name": "a", "applications": [{"name": "bare", "type": "live"}, {"name": "*", "type": "live"}]}
        _, results = await told(box, "POST", "/v1/vhosts", [vhost])
        assert results[0]["response"] == {"name": "a"}
        assert (await told(box, "GET", "/v1/vhosts/a/apps"))[1]["response"] == ["bare"]
        bare = (await told(box, "GET", "/v1/vhosts/a/apps/bare"))[1]["response"]
        assert bare == {"dynamic": False, "name": "bare", "type": "live"}

    async def test_one_bad_application_and_nothing_is_made(self, box: Box) -> None:
        vhost = {"name": "a", "applications": [{"name": "good", "type": "live"}, {"name": "bad", "type": "vod"}]}
        assert (await told(box, "POST", "/v1/vhosts", [vhost]))[0] == 400
        assert (await told(box, "GET", "/v1/vhosts"))[1]["response"] == ["default"]

    async def test_its_host_names_are_known_at_once(self, box: Box) -> None:
        directory = box.engine.directory
        assert directory.vhost_for_host("tv.local") is None
        await make(box)
        assert directory.vhost_for_host("tv.local") == "tv"
        await told(box, "DELETE", "/v1/vhosts/tv")
        assert directory.vhost_for_host("tv.local") is None


class TestGetVhost:
    async def test_json_comes_back_as_it_was_sent_and_xml_as_its_text(self, box: Box) -> None:
        sent = {"name": "a", "admissionWebhooks": {"timeout": 10, "controlServerUrl": "http://10.0.0.1/"}}
        await told(box, "POST", "/v1/vhosts", [{**sent, "distribution": None}])
        assert (await told(box, "GET", "/v1/vhosts/a"))[1]["response"] == sent
        declared = (await told(box, "GET", "/v1/vhosts/default"))[1]["response"]
        assert declared["host"]["names"] == ["127.0.0.1", "localhost"]


class TestDeleteVhost:
    async def test_it_is_gone_with_all_below(self, box: Box, tmp_path: Path) -> None:
        await make(box)
        assert await told(box, "DELETE", "/v1/vhosts/tv") == (200, {"message": "OK", "statusCode": 200})
        missing = (404, "[HTTP] Could not find the virtual host: [tv] (404)")
        assert message(await told(box, "DELETE", "/v1/vhosts/tv")) == missing
        assert message(await told(box, "GET", APPS)) == missing
        await told(box, "POST", "/v1/vhosts", [{"name": "tv"}])
        assert (await told(box, "GET", APPS))[1]["response"] == []

    async def test_what_server_xml_declares_stays(self, box: Box) -> None:
        assert message(await told(box, "DELETE", "/v1/vhosts/default")) == (403, READ_ONLY)


class TestPut:
    async def test_only_what_server_xml_declares_says_why(self, box: Box) -> None:
        await make(box)
        for below in ("", "/apps/app", "/apps/app/outputProfiles/x"):
            assert message(await told(box, "PUT", f"/v1/vhosts/default{below}", {})) == (403, READ_ONLY)
            assert (await told(box, "PUT", f"/v1/vhosts/tv{below}", {}))[0] == 404


class TestReloadCertificate:
    async def test_one_that_can_not_be_loaded_is_told(self, box: Box, tmp_path: Path) -> None:
        cert, key = self_signed(["tv.local"], tmp_path / "tls")
        tls = {"certPath": str(cert), "keyPath": str(key)}
        await told(box, "POST", "/v1/vhosts", [{"name": "tv", "host": {"names": ["tv.local"], "tls": tls}}])
        assert (await told(box, "POST", "/v1/vhosts/tv:reloadCertificate"))[0] == 200
        cert.write_text("no certificate")
        status, text = message(await told(box, "POST", "/v1/vhosts/tv:reloadCertificate", {}))
        assert status == 500
        assert text.startswith("[HTTP] Failed to reload certificate. Keep the existing certificate. certificate of tv")
        assert (await told(box, "POST", "/v1/vhosts:reloadAllCertificates"))[0] == 500

    async def test_without_tls_there_is_nothing_to_do(self, box: Box) -> None:
        await make(box)
        assert await told(box, "POST", "/v1/vhosts/tv:reloadCertificate") == (200, {"message": "OK", "statusCode": 200})
        assert (await told(box, "POST", "/v1/vhosts/nope:reloadCertificate"))[0] == 404

    async def test_the_managers_certificate(self, box: Box) -> None:
        answer = await told(box, "POST", "/v1/managers/api:reloadCertificate")
        assert message(answer) == (400, "[HTTP] TLS is not enabled for the API Server (400)")


class TestCreateApplications:
    async def test_what_is_missing_is_filled(self, box: Box) -> None:
        await make(box)
        _, results = await told(box, "POST", APPS, [{"name": "two", "type": "live"}])
        assert results[0]["response"] == {"name": "two", "type": "live", "dynamic": False, **FILLED}
        kept: dict[str, Any] = {"name": "three", "type": "live", "providers": {}, "outputProfiles": {}}
        _, results = await told(box, "POST", APPS, [{**kept, "publishers": None}])
        assert results[0]["response"] == {**kept, "dynamic": False}

    async def test_each_element_whole_or_not_at_all(self, box: Box) -> None:
        await make(box)
        items = [{"name": "two", "type": "live"}, {"name": "one", "type": "live"}, {"name": "x", "type": "vod"}, "s", 5]
        status, results = await told(box, "POST", APPS, items)
        assert status == 207
        assert [(each["statusCode"], each["message"]) for each in results] == [
            (200, "OK"),
            (409, "Could not create the application: [tv/one] already exists"),
            (400, "[Config] Unknown type: vod"),
            (400, "[Config] application.name is not optional"),
            (400, "[Config] application.name is not optional"),
        ]
        assert (await told(box, "GET", APPS))[1]["response"] == ["one", "two"]

    async def test_order_of_checks(self, box: Box) -> None:
        assert message(await told(box, "POST", "/v1/vhosts/default/apps", {})) == (403, READ_ONLY)
        assert (await told(box, "POST", APPS, {}))[0] == 404
        await make(box)
        assert message(await told(box, "POST", APPS, {})) == (400, "[HTTP] Request body must be an array (400)")
        assert await told(box, "POST", APPS, []) == (200, [])

    async def test_the_pattern_of_others_is_no_application(self, box: Box) -> None:
        await make(box)
        status, results = await told(box, "POST", APPS, [{"name": "*", "type": "live"}])
        assert (status, results[0]["message"]) == (400, "[Config] Invalid application name: [*]")


class TestPatchApplication:
    async def test_objects_are_merged_and_all_else_replaced(self, box: Box) -> None:
        await make(box, publishers={"llhls": {"segmentCount": 5, "crossDomains": {"urls": ["a", "b"]}}, "ovt": {}})
        patch = {"publishers": {"llhls": {"segmentCount": "6", "crossDomains": {"urls": ["*"]}}, "ovt": None}}
        _, answer = await told(box, "PATCH", f"{APPS}/one", patch)
        expected = {"llhls": {"segmentCount": "6", "crossDomains": {"urls": ["*"]}}}
        assert answer["response"]["publishers"] == expected
        assert (await told(box, "GET", f"{APPS}/one"))[1] == answer

    @pytest.mark.parametrize("key", ["name", "dynamic", "outputProfiles"])
    async def test_what_can_not_be_changed(self, box: Box, key: str) -> None:
        await make(box)
        answer = await told(box, "PATCH", f"{APPS}/one", {key: None})
        assert message(answer) == (400, f"[HTTP] Cannot change [{key}] using this API (400)")

    async def test_a_refused_one_changes_nothing(self, box: Box) -> None:
        await make(box)
        before = await told(box, "GET", f"{APPS}/one")
        for patch, text in (
            ({"type": "zzz"}, "[Config] Unknown type: zzz"),
            ({"type": None}, "[Config] application.type is not optional"),
            ({"bogus": 1}, "[Config] Unknown item found: application.bogus"),
            ({"publishers": {"llhls": {"segmentCount": 0}}}, "[Config] SegmentCount must be greater than 0"),
            ([], "[HTTP] Request body must be an object (400)"),
        ):
            assert message(await told(box, "PATCH", f"{APPS}/one", patch)) == (400, text)
        assert await told(box, "GET", f"{APPS}/one") == before
        assert message(await told(box, "PATCH", "/v1/vhosts/default/apps/app", [])) == (403, READ_ONLY)

    async def test_the_stream_goes_on(self, box: Box) -> None:
        await make(box, providers={"rtmp": {}, "srt": {}})
        opened, video, audio = box.open("one", "cam", "tv")
        box.feed(opened, video, audio, frames=31)
        patch = {"publishers": {"llhls": {"segmentCount": 7}}, "providers": {"srt": None}}
        await told(box, "PATCH", f"{APPS}/one", patch)
        streams = f"{APPS}/one/streams"
        assert (await told(box, "GET", streams))[1]["response"] == ["cam"]
        output = box.engine.directory.output("tv", "one", "cam")
        assert output is not None
        assert output.packets > 0
        await told(box, "PATCH", f"{APPS}/one", {"providers": {"rtmp": {"maxConnection": 3}}})
        assert (await told(box, "GET", streams))[1]["response"] == []


class TestDeleteApplication:
    async def test_its_streams_end(self, box: Box) -> None:
        await make(box, providers={"rtmp": {}})
        reasons: list[str] = []
        box.open("one", "cam", "tv")[0].on_cancel(reasons.append)
        assert await told(box, "DELETE", f"{APPS}/one") == (200, {"message": "OK", "statusCode": 200})
        assert reasons == ["its application was deleted"]
        missing = (404, "[HTTP] Could not find the application: [tv/one] (404)")
        assert message(await told(box, "DELETE", f"{APPS}/one")) == missing
        assert message(await told(box, "DELETE", "/v1/vhosts/default/apps/app")) == (403, READ_ONLY)


    async def test_what_is_kept_of_its_work_goes_with_it_and_no_other(self, box: Box) -> None:
        await make(box)
        await told(box, "POST", APPS, [{"name": "one.more", "type": "live"}])
        kept = [(kind, f"tv/{app}/x") for kind in ("pull", "task:record", "task:push") for app in ("one", "one.more")]
        for kind, key in kept:
            await box.engine.store.put(kind, key, b"{}")
        await told(box, "DELETE", f"{APPS}/one")
        left = [(kind, key) for kind, key in kept if await box.engine.store.get(kind, key) is not None]
        assert left == [(kind, key) for kind, key in kept if "more" in key]


class TestCreateProfiles:
    async def test_mixed(self, box: Box) -> None:
        await make(box)
        more = {**BYPASS, "name": "more", "outputStreamName": "${OriginStreamName}_m"}
        status, results = await told(box, "POST", PROFILES, [more, BYPASS, more])
        assert status == 207
        assert results == [
            {"message": "OK", "response": more, "statusCode": 200},
            {"message": 'The output profile "bypass" already exists', "statusCode": 409},
            {"message": 'The output profile "more" already exists', "statusCode": 409},
        ]
        assert (await told(box, "GET", PROFILES))[1]["response"] == ["bypass", "more"]
        assert (await told(box, "POST", PROFILES, [more]))[0] == 409

    @pytest.mark.parametrize(
        ("item", "text"),
        [
            (None, '"name", "outputStreamName", "encodes" are required'),
            ("x", '"name", "outputStreamName", "encodes" are required'),
            ({"name": "p", "encodes": {}}, '"name", "outputStreamName", "encodes" are required'),
            ({"name": 5, "outputStreamName": "s", "encodes": {}},
             '"name" must be a string and "encodes" must be an object'),
            ({"name": "p", "outputStreamName": "s", "encodes": {"images": [{}]}},
             '"encodes" must have at least one item (videos array or audios array)'),
            ({"name": "p", "outputStreamName": "s", "encodes": {"videos": {}}}, '"encodes.videos" must be an array'),
            ({"name": "p", "outputStreamName": "s", "encodes": {"audios": 1}}, '"encodes.audios" must be an array'),
            ({"name": "p", "outputStreamName": "s", "encodes": {"audios": []}},
             '"encodes" must have at least one item (videos array or audios array) and each item must have at least '
             "one item"),
        ],
    )  # fmt: skip
    async def test_shapes_that_no_profile_has_refuse_them_all(self, box: Box, item: Any, text: str) -> None:
        await make(box)
        answer = await told(box, "POST", PROFILES, [{**BYPASS, "name": "good"}, item])
        assert message(answer) == (400, f"[HTTP] Invalid request body: {text} (400)")
        assert (await told(box, "GET", PROFILES))[1]["response"] == ["bypass"]

    async def test_a_setting_that_is_wrong_refuses_them_all(self, box: Box) -> None:
        await make(box)
        wrong = {**BYPASS, "name": "w", "encodes": {"videos": [{"codec": "h264"}]}}
        answer = await told(box, "POST", PROFILES, [{**BYPASS, "name": "good"}, wrong])
        assert message(answer) == (400, "[HTTP] [Config] Bitrate must be specified when bypass is false (400)")
        assert (await told(box, "GET", PROFILES))[1]["response"] == ["bypass"]
        assert message(await told(box, "POST", PROFILES, {}))[1] == "[HTTP] Request body must be an array (400)"
        declared = await told(box, "POST", "/v1/vhosts/default/apps/app/outputProfiles", {})
        assert message(declared) == (403, READ_ONLY)


class TestPatchProfile:
    async def test_it_is_replaced_as_a_whole(self, box: Box) -> None:
        await make(box)
        status, answer = await told(box, "PATCH", f"{PROFILES}/bypass", {"outputStreamName": "fixed"})
        assert (status, answer["response"]) == (200, {"name": "bypass", "outputStreamName": "fixed"})
        assert (await told(box, "GET", f"{PROFILES}/bypass"))[1] == answer

    @pytest.mark.parametrize(
        ("path", "body", "expected"),
        [
            ("bypass", [], (400, "[HTTP] Request body must be an object (400)")),
            ("nope", {}, (404, "[HTTP] Could not find the output profile: [tv/one/nope] (404)")),
            ("", {}, (404, "[HTTP] Could not find the output profile: [tv/one/] (404)")),
            ("bypass", {"NAME": 1}, (400, "[HTTP] The NAME entry cannot be specified in the modification (400)")),
            ("bypass", {"encodes": {}},
             (400, "[HTTP] [Config] outputProfile.outputStreamName is not optional (400)")),
        ],
    )  # fmt: skip
    async def test_refused(self, box: Box, path: str, body: Any, expected: tuple[int, str]) -> None:
        await make(box)
        assert message(await told(box, "PATCH", f"{PROFILES}/{path}", body)) == expected


class TestDeleteProfile:
    async def test_the_last_one_may_go(self, box: Box) -> None:
        await make(box)
        assert (await told(box, "DELETE", f"{PROFILES}/bypass")) == (200, {"message": "OK", "statusCode": 200})
        assert (await told(box, "GET", PROFILES))[1]["response"] == []
        assert (await told(box, "DELETE", f"{PROFILES}/bypass"))[0] == 404

    async def test_its_output_ends_and_the_others_go_on(self, box: Box) -> None:
        await make(box, providers={"rtmp": {}})
        box.feed(*box.open("one", "cam", "tv"), frames=31)
        output = box.engine.directory.output("tv", "one", "cam")
        assert output is not None
        await told(box, "POST", PROFILES, [{**BYPASS, "name": "more", "outputStreamName": "${OriginStreamName}_m"}])
        more = box.engine.directory.output("tv", "one", "cam_m")
        assert more is not None
        assert more.packets > 0, "a new one begins with the last key frame"
        await told(box, "DELETE", f"{PROFILES}/more")
        assert more.closed
        assert box.engine.directory.output("tv", "one", "cam_m") is None
        assert box.engine.directory.output("tv", "one", "cam") is output


# What is kept


async def test_all_of_it_is_there_again(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        await make(box)
        await told(box, "POST", APPS, [{"name": "two", "type": "live"}, {"name": "a", "type": "live"}])
        await told(box, "PATCH", f"{APPS}/one", {"publishers": {"llhls": {"segmentCount": 9}}})
        await told(box, "DELETE", f"{APPS}/two")
        await told(box, "DELETE", f"{APPS}/a")
        await told(box, "POST", APPS, [{"name": "three", "type": "live"}, {"name": "a", "type": "live"}])
        before = [await told(box, "GET", path) for path in ("/v1/vhosts", "/v1/vhosts/tv", APPS, f"{APPS}/one")]
    async with open_box(tmp_path) as box:
        assert [await told(box, "GET", path) for path in ("/v1/vhosts", "/v1/vhosts/tv", APPS, f"{APPS}/one")] == before
        assert (await told(box, "GET", APPS))[1]["response"] == ["one", "three", "a"]


async def test_without_a_config_file_the_default_is_written_once(tmp_path: Path) -> None:
    async with open_box(tmp_path, DEFAULT_XML, seed=True) as box:
        apps = "/v1/vhosts/default/apps"
        assert (await told(box, "PATCH", f"{apps}/app", {"publishers": {"llhls": {"segmentCount": 9}}}))[0] == 200
        application = await told(box, "GET", f"{apps}/app")
    async with open_box(tmp_path, DEFAULT_XML, seed=True) as box:
        assert await told(box, "GET", f"{apps}/app") == application
        assert (await told(box, "DELETE", "/v1/vhosts/default"))[0] == 200
    async with open_box(tmp_path, DEFAULT_XML, seed=True) as box:
        assert (await told(box, "GET", "/v1/vhosts"))[1]["response"] == []


async def test_seeds_keep_the_folder_of_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    text = (RECORDED / "Server.xml").read_text().replace("$BOX/conf/", "")
    (folder / "Server.xml").write_text(text.replace("$BOX/var/rec", "${ome:CurrentPath}/rec"))
    async with open_box(tmp_path, folder / "Server.xml", seed=True) as box:
        tls = (await told(box, "GET", "/v1/vhosts/default"))[1]["response"]["host"]["tls"]
        assert tls["certPath"] == str(folder / "tls.crt")
        publishers = (await told(box, "GET", "/v1/vhosts/default/apps/app"))[1]["response"]["publishers"]
        assert publishers["file"]["rootPath"] == str(folder / "rec")


async def test_the_file_wins_and_the_stored_one_is_kept_and_told(tmp_path: Path) -> None:
    async with open_box(tmp_path, DEFAULT_XML, seed=True) as box:
        await told(box, "POST", "/v1/vhosts/default/apps", [{"name": "mine", "type": "live"}])
    async with open_box(tmp_path) as box:
        assert "conflict:default" in box.engine.alarms
        assert (await told(box, "GET", "/v1/vhosts/default"))[1]["response"]["distribution"] == "peer.local"
        assert (await told(box, "POST", "/v1/vhosts", [{"name": "default"}]))[0] == 409
    async with open_box(tmp_path, DEFAULT_XML, seed=True) as box:
        assert "mine" in (await told(box, "GET", "/v1/vhosts/default/apps"))[1]["response"]


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("vhost", "tv", b"no JSON"),
        ("vhost", "tv", b'{"order": "x", "raw": {}}'),
        ("vhost", "tv", msgspec.json.encode(Stored(1, {"name": "tv", "laterSetting": 1}))),
        ("vhost", "tv", msgspec.json.encode(Stored(1, {"name": "other"}))),
        ("application", "tv/one", b"\xff"),
        ("application", "tv/one", msgspec.json.encode(Stored(2, {"name": "one", "type": "vod"}))),
        ("application", "tv/one", msgspec.json.encode(Stored(2, {"name": "two", "type": "live"}))),
    ],
)
async def test_an_entry_that_can_not_be_read_is_an_alarm_and_the_rest_goes_on(
    tmp_path: Path, kind: str, key: str, value: bytes
) -> None:
    async with open_box(tmp_path) as box:
        await make(box)
        await told(box, "POST", "/v1/vhosts", [{"name": "well"}])
    with closing(sqlite3.connect(tmp_path / "kiln.sqlite")) as store:
        store.execute("UPDATE entry SET value = ? WHERE kind = ? AND key = ?", (value, kind, key))
        store.commit()
    async with open_box(tmp_path) as box:
        assert f"stored:{kind}:{key}" in box.engine.alarms
        assert "well" in (await told(box, "GET", "/v1/vhosts"))[1]["response"]
        # Made anew, it takes the place of what could not be read.
        if kind == "vhost":
            await make(box)
        else:
            assert (await told(box, "POST", APPS, [{"name": "one", "type": "live"}]))[0] == 200
        assert not [path for path in box.engine.alarms if path.startswith("stored:")]
        assert (await told(box, "GET", APPS))[1]["response"] == ["one"]


async def test_a_client_that_leaves_loses_the_answer_alone(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        with trio.CancelScope() as scope:
            stored = box.engine.store.transaction

            async def leave(work: Any) -> Any:
                scope.cancel()
                return await stored(work)

            box.engine.store.transaction = leave  # type: ignore[method-assign]
            await box.engine.editor.create_vhosts([{"name": "tv"}])
        assert scope.cancelled_caught or scope.cancel_called
        assert "tv" in box.engine.directory.vhosts
        assert await box.engine.store.get("vhost", "tv") is not None


async def test_what_can_not_be_applied_is_undone(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(box)
    before = await told(box, "GET", f"{APPS}/one"), await box.engine.store.list("application")
    change = Application.change

    def broken(application: Application, settings: models.Application, raw: dict[str, Any]) -> None:
        change(application, settings, raw)
        monkeypatch.setattr(Application, "change", change)
        raise ZeroDivisionError

    monkeypatch.setattr(Application, "change", broken)
    assert (await told(box, "PATCH", f"{APPS}/one", {"publishers": {"ovt": {"maxConnection": 4}}}))[0] == 500
    assert (await told(box, "GET", f"{APPS}/one"), await box.engine.store.list("application")) == before


async def test_changes_at_once_come_one_after_the_other(box: Box) -> None:
    await make(box)

    async def add(number: int) -> None:
        profile = {**BYPASS, "name": f"p{number}", "outputStreamName": f"s{number}"}
        assert (await told(box, "POST", PROFILES, [profile]))[0] == 200

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(add, number)
    assert len((await told(box, "GET", PROFILES))[1]["response"]) == 21


# Alarms and secrets


async def test_what_is_not_built_is_told_as_long_as_it_is_there(box: Box) -> None:
    await make(box, providers={"rtspPull": {}}, transcodeWebhook={"enable": True, "controlServerUrl": "http://x",
                                                                  "secretKey": "k"})  # fmt: skip
    path = "settings:VirtualHost tv/Application one/TranscodeWebhook"
    assert path in box.engine.alarms
    await told(box, "PATCH", f"{APPS}/one", {"transcodeWebhook": None})
    assert path not in box.engine.alarms


def test_secrets_are_for_those_who_may_change_them() -> None:
    raw = {"signedPolicy": {"secretKey": "s", "policyQueryKeyName": "p"}, "list": [{"auth": "a"}, "x"], "n": 1}
    assert shown_to(Role.ADMIN, raw) == raw
    hidden = {"signedPolicy": {"secretKey": "***", "policyQueryKeyName": "p"}, "list": [{"auth": "***"}, "x"], "n": 1}
    assert shown_to(Role.OPERATOR, raw) == shown_to(Role.VIEWER, raw) == hidden
