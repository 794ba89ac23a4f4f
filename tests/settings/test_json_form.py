"""Settings as the API takes and answers them: names, lists, types, errors and their order (catalogue 4)."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.json_form import load_json, merge_patch
from appliance.settings.schema import Node, by_json_name, fields_of

APPLICATION = {"name": "a", "type": "live"}
VIDEO = {"name": "v", "bypass": True}


def application(**more: Any) -> dict[str, Any]:
    return {**APPLICATION, **more}


def with_videos(*videos: Any) -> dict[str, Any]:
    profile = {"name": "p", "outputStreamName": "x", "encodes": {"videos": list(videos)}}
    return application(outputProfiles={"outputProfile": [profile]})


def error_of(model: type[Node], value: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_json(model, value, environment={})
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        # as the recorded answers of the real server have them
        ({"name": "dyn2"}, "application.type is not optional"),
        ({"type": "live"}, "application.name is not optional"),
        ({"name": "dyn6", "bogus": True}, "Unknown item found: application.bogus"),
        (None, "application.name is not optional"),
        (application(outputProfiles=[]), "outputProfile is not an array"),
        (application(providers={"foo": {}}), "Unknown item found: application.providers.foo"),
        # as catalogue 4.4 describes them
        (application(providers={"rtmp": {"foo": 1}}), "Unknown item found: application.providers.rtmp.foo"),
        (application(publishers={"llhls": {"dvr": {}}}), "Unknown item found: application.publishers.llhls.dvr"),
        (application(outputProfiles={"outputProfile": [{"foo": 1}]}), "Unknown item found: outputProfile.foo"),
        (
            application(
                outputProfiles={"outputProfile": [{"name": "p", "outputStreamName": "x", "encodes": {"foo": 1}}]}
            ),
            "Unknown item found: outputProfile.encodes.foo",
        ),
        (with_videos({"foo": 1}), "Unknown item found: videos.foo"),
        (
            application(
                outputProfiles={"outputProfile": [{"name": "p", "outputStreamName": "x", "playlists": [{"foo": 1}]}]}
            ),
            "Unknown item found: playlists.foo",
        ),
        (application(zz=1, b=1, aa={"x": 1}), "Unknown item found: application.aa"),
        (application(providers={"rtmp": {"inner": 1}}, outer=1), "Unknown item found: application.outer"),
        (application(outputProfiles={"outputProfile": {}}), "Child outputProfile is not an array"),
        (
            application(outputProfiles={"outputProfile": [{"name": "p"}]}),
            "outputProfile.outputStreamName is not optional",
        ),
        (
            application(outputProfiles={"outputProfile": [{"name": "p", "outputStreamName": "x", "encodes": []}]}),
            "audios is not an array",
        ),
        (with_videos({"name": "v"}), "Codec must be specified when bypass is false"),
        (application(providers={"srt": {"audioMap": []}}), "item is not an array"),
        (application(providers={"srt": {"audioMap": {"item": {}}}}), "Child item is not an array"),
        (application(providers={"srt": {"audioMap": {"item": [{}]}}}), "item.name is not optional"),
        # stricter than the real server: wrong types are told, with the reason
        ({"name": 5, "type": "live"}, "application.name must be a text"),
        ({"name": "a", "type": "vod"}, "Unknown type: vod"),
        ({"name": "a/b c#", "type": "live"}, "Invalid application name: [a/b c#]"),
        (application(providers="x"), "application.providers must be an object"),
        (application(providers=[]), "application.providers must be an object"),
        (
            application(publishers={"llhls": {"segmentCount": "many"}}),
            "application.publishers.llhls.segmentCount must be an integer",
        ),
        (
            application(publishers={"llhls": {"segmentCount": "12abc"}}),
            "application.publishers.llhls.segmentCount must be an integer",
        ),
        (
            application(publishers={"llhls": {"segmentCount": 10.5}}),
            "application.publishers.llhls.segmentCount must be an integer",
        ),
        (
            application(publishers={"llhls": {"segmentCount": True}}),
            "application.publishers.llhls.segmentCount must be an integer",
        ),
        (
            application(publishers={"llhls": {"segmentCount": {}}}),
            "application.publishers.llhls.segmentCount must be an integer",
        ),
        (
            application(publishers={"llhls": {"segmentCount": 2**60}}),
            "application.publishers.llhls.segmentCount is too large",
        ),
        (application(publishers={"llhls": {"segmentDuration": 0}}), "SegmentDuration must be greater than 0"),
        (
            application(publishers={"llhls": {"originMode": 1}}),
            "application.publishers.llhls.originMode must be true or false",
        ),
        (application(dynamic=True), "Unknown item found: application.dynamic"),
        (with_videos("x"), "videos must be an object"),
        (with_videos(VIDEO, []), "videos must be an object"),
    ],
)
def test_errors_of_applications(value: Any, message: str) -> None:
    assert error_of(models.Application, value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "virtualHost.name is not optional"),
        ("x", "virtualHost.name is not optional"),
        (5, "virtualHost.name is not optional"),
        (["x"], "virtualHost.name is not optional"),
        ({"name": "n3", "foo": 1}, "Unknown item found: virtualHost.foo"),
        ({"name": None}, "virtualHost.name is not optional"),
        ({"name": "v", "host": {"names": "x"}}, "virtualHost.host.names must be an array"),
        ({"name": "v", "host": {"names": {"name": "x"}}}, "Child name is not an array"),
        ({"name": "v", "host": {"names": {"nam": []}}}, "Unknown item found: names.nam"),
        ({"name": "v", "host": {"names": [1]}}, "name must be a text"),
        ({"name": "v", "applications": [{"type": "live"}]}, "application.name is not optional"),
        ({"name": "v", "applications": [APPLICATION, APPLICATION]}, "Duplicate application name: a"),
        ({"name": "v", "origins": {"origin": [{"foo": 1}]}}, "Unknown item found: origin.foo"),
        ({"name": "v", "origins": {"origin": [{"location": "/a"}]}}, "origin.pass is not optional"),
        ({"name": "v", "origins": {"origin": [{"location": "/a", "pass": {}}]}}, "origin.pass.scheme is not optional"),
        (
            {"name": "v", "origins": {"origin": [{"location": "/a", "pass": {"scheme": "rtsp", "urls": ["x"]}}]}},
            "url is not an array",
        ),
        (
            {"name": "v", "originMapStore": {"redisServer": {"host": "nowhere"}}},
            "RedisServer.Host must be host:port: [nowhere]",
        ),
    ],
)
def test_errors_of_virtual_hosts(value: Any, message: str) -> None:
    assert error_of(models.VirtualHost, value) == message


def test_required_settings_of_an_optional_parent_may_be_missing() -> None:
    value = {"name": "v", "host": {}, "signedPolicy": {}, "originMapStore": {}, "admissionWebhooks": {"enables": {}}}
    loaded = load_json(models.VirtualHost, value)
    assert loaded.raw == value
    assert loaded.model.signed_policy == models.SignedPolicy()
    assert loaded.model.host.names == ()
    assert load_json(models.VirtualHost, {"name": "v", "host": {"tls": {}}}).model.host.tls == models.TLS()


def test_values_are_echoed_as_they_were_sent() -> None:
    value = application(
        publishers={"llhls": {"chunkDuration": 0.3, "segmentCount": "7", "crossDomains": {"urls": ["*"]}}},
        outputProfiles={
            "outputProfile": [
                {
                    "name": "p",
                    "outputStreamName": "${OriginStreamName}",
                    "encodes": {
                        "videos": [{"codec": "h264", "bitrate": "2M"}],
                        "audios": [{"codec": "opus", "bitrate": 96000}],
                    },
                }
            ]
        },
    )
    loaded = load_json(models.Application, value)
    assert loaded.raw == value
    assert loaded.model.publishers.llhls is not None
    assert loaded.model.publishers.llhls.segment_count == 7
    (profile,) = loaded.model.profiles
    assert (profile.encodes.videos[0].bitrate, profile.encodes.audios[0].bitrate) == (2 * 1048576, 96000)


def test_the_object_form_of_a_plain_list_is_taken_and_the_array_answered() -> None:
    value = {
        "name": "v",
        "host": {"names": {"name": ["a.example", "*.b.example"]}},
        "applications": {"application": []},
    }
    loaded = load_json(models.VirtualHost, value)
    assert loaded.model.host.names == ("a.example", "*.b.example")
    assert loaded.raw == {"name": "v", "host": {"names": ["a.example", "*.b.example"]}, "applications": []}


def test_null_is_absent_and_the_dollar_is_no_setting() -> None:
    loaded = load_json(
        models.Application, application(providers={"rtmp": None, "srt": {"$": {"include": "/etc/passwd"}}})
    )
    assert loaded.model.providers.rtmp is None
    assert loaded.model.providers.srt == models.SrtProvider()
    assert loaded.raw == application(providers={"srt": {}})


def test_the_echo_is_a_copy() -> None:
    value = application(providers={"rtmp": {}})
    loaded = load_json(models.Application, value)
    value["providers"]["srt"] = {}
    assert loaded.raw == application(providers={"rtmp": {}})


def test_macros_are_read_and_echoed_as_sent() -> None:
    value = application(publishers={"file": {"rootPath": "${env:HERE:/tmp}/x", "filePath": "${Stream}"}})
    loaded = load_json(models.Application, value, environment={"HERE": "/srv"})
    assert loaded.model.publishers.file is not None
    assert loaded.model.publishers.file.root_path == "/srv/x"
    assert loaded.model.publishers.file.file_path == "${Stream}"
    assert loaded.raw == value


def test_secrets_of_the_box_cannot_be_read_through_a_macro() -> None:
    value = application(publishers={"file": {"rootPath": "${env:KILN_ACCESS_TOKEN:none}"}})
    loaded = load_json(models.Application, value, environment={"KILN_ACCESS_TOKEN": "secret"})
    assert loaded.model.publishers.file is not None
    assert loaded.model.publishers.file.root_path == "none"


def test_the_bodies_of_the_manual_are_taken() -> None:
    vhost = {
        "name": "vh3",
        "distribution": "d3",
        "host": {"names": ["vh3.local", "*.vh3.local"]},
        "signedPolicy": {
            "enables": {"providers": "rtmp,webrtc,srt", "publishers": "webrtc,llhls"},
            "policyQueryKeyName": "policy",
            "secretKey": "s3cr3t",
            "signatureQueryKeyName": "signature",
        },
        "admissionWebhooks": {
            "controlServerUrl": "http://127.0.0.1:9/admission",
            "secretKey": "k",
            "timeout": 3000,
            "enables": {"providers": "rtmp,webrtc,srt", "publishers": "webrtc,llhls"},
        },
        "origins": {
            "origin": [{"location": "/app/rtsp", "pass": {"scheme": "rtsp", "urls": {"url": ["127.0.0.1:9/ca-01"]}}}]
        },
        "originMapStore": {"redisServer": {"host": "192.168.0.160:6379", "auth": "!@#ovenmediaengine"}},
    }
    loaded = load_json(models.VirtualHost, vhost)
    assert loaded.raw == vhost
    assert loaded.model.origins.origins[0].pass_.urls == ("127.0.0.1:9/ca-01",)
    assert loaded.model.origins.origins[0].pass_.forward_query_params is True
    defaults = {
        "name": "default",
        "outputStreamName": "${OriginStreamName}",
        "encodes": {
            "videos": [{"name": "bypass_video", "bypass": True}],
            "audios": [
                {
                    "name": "opus",
                    "codec": "opus",
                    "bitrate": 128000,
                    "samplerate": 48000,
                    "channel": 2,
                    "bypassIfMatch": {"codec": "eq"},
                }
            ],
        },
    }
    filled = application(
        providers={"ovt": {}, "rtspPull": {}, "webrtc": {}, "srt": {}, "rtmp": {}},
        publishers={"llhls": {}, "webrtc": {}, "ovt": {}},
        outputProfiles={"outputProfile": [defaults]},
    )
    assert load_json(models.Application, filled).raw == filled


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (models.SegmentedPublisher, "dVR cacheControl createDefaultPlaylist segmentDuration originMode"),
        (models.LLHlsPublisher, "dRM chunkDuration partHoldBack"),
        (models.VideoBypassIfMatch, "sAR framerate"),
        (models.RtmpEvent, "hLSID3v2 trigger"),
        (models.PlaylistOptions, "hLSChunklistPathDepth webRtcAutoAbr enableTsPackaging"),
        (models.VideoEncode, "bFrames keyFrameIntervalType bypassIfMatch"),
        (models.Origin, "ignoreRtcpSRTimestamp pass strictLocation"),
        (models.ApplicationDecodes, "h264hasBframes"),
        (models.Playlist, "renditions rendition_templates fileName"),
        (models.Rendition, "video_index_hint audio_index_hint"),
        (models.RenditionTemplate, "video_template audio_template"),
        (models.VideoTemplate, "variant_name max_framerate min_bitrate encoding_type"),
        (models.AudioTemplate, "max_samplerate min_channel"),
        (models.CrossDomains, "urls headers"),
        (models.DefaultQueryString, "queries"),
        (models.Providers, "rtmp rtspPull hlsPull rtsp ovt srt webrtc file schedule multiplex mpegts capture"),
        (models.Publishers, "webrtc llhls hls ovt file thumbnail push srt mPEGTSPush rtmpPush srtPush appWorkerCount"),
        (models.OutputProfiles, "hwaccels decodes mediaOptions outputProfile hardwareAcceleration"),
        (models.MpegtsProvider, "streams audioMap packetSilenceTimeoutMs"),
        (models.FilePublisher, "streamMap record rootPath"),
        (models.Application, "transcodeWebhook eventGenerator persistentStreams decodes"),
    ],
)
def test_json_names(model: type[Node], names: str) -> None:
    assert set(names.split()) <= set(by_json_name(model))


def test_no_model_has_a_name_twice() -> None:
    seen: set[type[Node]] = set()

    def look(model: type[Node]) -> None:
        if model in seen:
            return
        seen.add(model)
        fields = fields_of(model)
        assert len({field.json for field in fields}) == len(fields), model
        assert len({field.container or field.xml for field in fields}) == len(fields), model
        for field in fields:
            if field.section:
                look(field.section)

    look(models.Server)
    assert len(seen) > 90


def test_patch_merges_objects_and_replaces_all_else() -> None:
    current = {"providers": {"rtmp": {"maxConnection": 1}}, "publishers": {"llhls": {}}, "list": [1, 2], "text": "x"}
    patch = {
        "providers": {"rtmp": {"publishKey": "k"}, "srt": {}},
        "publishers": None,
        "list": [3],
        "text": {"a": {"b": 1}},
    }
    merged = merge_patch(current, patch)
    assert merged == {
        "providers": {"rtmp": {"maxConnection": 1, "publishKey": "k"}, "srt": {}},
        "list": [3],
        "text": {"a": {"b": 1}},
    }
    assert current["providers"] == {"rtmp": {"maxConnection": 1}}
    assert merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}) == {"a": {"c": 2}}
