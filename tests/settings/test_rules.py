"""Each rule of the settings, from XML and from JSON alike, with the line of what breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.json_form import load_json
from appliance.settings.schema import Node
from appliance.settings.xml import load_xml
from tests.settings.writer import application, profile, server, text_of, to_xml

BASE: dict[str, dict[str, Any]] = {
    "videos": {"codec": "h264", "bitrate": 1000000},
    "audios": {"codec": "aac", "bitrate": 128000},
    "images": {"codec": "jpeg"},
}
BITRATE_LATER = "BypassIfMatch.Bitrate is not yet supported"
COMPARE = "BypassIfMatch.{} must specified only one of eq, lte, gte"
EQUAL = "BypassIfMatch.Codec must be specified only eq"

WRONG_ENCODES = [
    ("videos", {"codec": None}, "Codec must be specified when bypass is false"),
    ("audios", {"codec": None}, "Codec must be specified when bypass is false"),
    ("videos", {"bitrate": None}, "Bitrate must be specified when bypass is false"),
    ("audios", {"bitrate": None}, "Bitrate must be specified when bypass is false"),
    ("videos", {"bitrate": 0}, "Bitrate must be greater than 0"),
    ("videos", {"bitrate": -5}, "Bitrate must be greater than 0"),
    ("audios", {"bitrate": "abc"}, "Bitrate must be greater than 0"),
    ("audios", {"bypass": True, "bitrate": 0}, "Bitrate must be greater than 0"),
    ("videos", {"skipFrames": -1}, "SkipFrames must be between 0 and 120"),
    ("videos", {"skipFrames": 121}, "SkipFrames must be between 0 and 120"),
    ("images", {"skipFrames": 121}, "SkipFrames must be between 0 and 120"),
    ("videos", {"preset": "veryfast"}, "Preset must be slower, slow, medium, fast, or faster"),
    ("videos", {"keyFrameIntervalType": "sec"}, "KeyFrameIntervalType must be frame or time"),
    ("videos", {"keyFrameInterval": 601}, "KeyFrameInterval must be between 0 and 600"),
    ("videos", {"keyFrameInterval": -1}, "KeyFrameInterval must be between 0 and 600"),
    ("videos", {"keyFrameInterval": 0, "keyFrameIntervalType": "time"}, "KeyFrameInterval must be between 0 and 10000"),
    (
        "videos",
        {"keyFrameInterval": 10001, "keyFrameIntervalType": "time"},
        "KeyFrameInterval must be between 0 and 10000",
    ),
    ("videos", {"bFrames": 17}, "BFrames must be between 0 and 16"),
    ("videos", {"bFrames": -1}, "BFrames must be between 0 and 16"),
    ("videos", {"profile": "high10"}, "Profile must be baseline, main or high"),
    ("videos", {"width": -2}, "Width must be between 0 and 16384"),
    ("images", {"height": 20000}, "Height must be between 0 and 16384"),
    ("videos", {"framerate": 1001}, "Framerate must be between 0 and 1000"),
    ("videos", {"bypassIfMatch": {"codec": "lte"}}, EQUAL),
    ("audios", {"bypassIfMatch": {"codec": "gte"}}, EQUAL),
    ("videos", {"bypassIfMatch": {"bitrate": "eq"}}, BITRATE_LATER),
    ("audios", {"bypassIfMatch": {"bitrate": "eq"}}, BITRATE_LATER),
    ("videos", {"bypassIfMatch": {"width": "ne"}}, COMPARE.format("Width")),
    ("videos", {"bypassIfMatch": {"height": ">"}}, COMPARE.format("Height")),
    ("videos", {"bypassIfMatch": {"framerate": "x"}}, COMPARE.format("Framerate")),
    ("audios", {"bypassIfMatch": {"samplerate": "x"}}, COMPARE.format("Samplerate")),
    ("audios", {"bypassIfMatch": {"channel": "x"}}, COMPARE.format("Channel")),
    ("images", {"bypassIfMatch": {"sAR": "lte"}}, "BypassIfMatch.SAR must be specified only eq"),
]

RIGHT_ENCODES: list[tuple[str, dict[str, Any]]] = [
    ("videos", {"skipFrames": 0}),
    ("videos", {"skipFrames": 120, "bFrames": 16, "keyFrameInterval": 600}),
    ("videos", {"keyFrameInterval": 10000, "keyFrameIntervalType": "TIME"}),
    ("videos", {"preset": "FASTER", "profile": "Main"}),
    ("videos", {"bitrate": "2M", "bypassIfMatch": {"codec": "EQ", "width": "LTE", "height": "gte", "sAR": "eq"}}),
    ("audios", {"bitrate": "128k", "bypassIfMatch": {"codec": "eq", "samplerate": "gte", "channel": "eq"}}),
    ("images", {"codec": None}),
]


def encode(kind: str, change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**BASE[kind], **change}.items() if value is not None}


@pytest.mark.parametrize(("kind", "change", "message"), WRONG_ENCODES)
def test_wrong_encodes(tmp_path: Path, kind: str, change: dict[str, Any], message: str) -> None:
    encodes = {kind: [encode(kind, change)]}
    with pytest.raises(ConfigError, match="^" + message.replace(".", r"\.") + "$"):
        load_json(models.OutputProfile, {"name": "p", "outputStreamName": "s", "encodes": encodes})
    file = tmp_path / "Server.xml"
    file.write_text(server(apps=profile("<Encodes>\n" + to_xml(models.Encodes, encodes) + "</Encodes>")))
    faults = load_xml(file).faults
    assert [fault.message for fault in faults] == [message]
    assert faults[0].line == 3
    path = "Server.VirtualHosts.VirtualHost.Applications.Application.OutputProfiles.OutputProfile.Encodes."
    assert faults[0].path.startswith(path)


@pytest.mark.parametrize(("kind", "change"), RIGHT_ENCODES)
def test_right_encodes(tmp_path: Path, kind: str, change: dict[str, Any]) -> None:
    encodes = {kind: [encode(kind, change)]}
    loaded = load_json(models.OutputProfile, {"name": "p", "outputStreamName": "s", "encodes": encodes})
    file = tmp_path / "Server.xml"
    file.write_text(server(apps=profile("<Encodes>" + to_xml(models.Encodes, encodes) + "</Encodes>")))
    assert load_xml(file).model.virtual_hosts[0].applications[0].profiles[0].encodes == loaded.model.encodes


def playlists(*items: dict[str, Any], **encodes: Any) -> dict[str, Any]:
    return {"name": "p", "outputStreamName": "s", "encodes": encodes, "playlists": list(items)}


PLAYLIST = {"fileName": "m"}
V = {"bypass": True}


@pytest.mark.parametrize(
    ("value", "message", "path"),
    [
        (playlists(PLAYLIST, PLAYLIST), "Duplicate playlist file name: m", "Playlist"),
        (playlists({"fileName": "a/b"}), "Invalid playlist file name: [a/b]", "Playlist.FileName"),
        (playlists({"fileName": "${Height}"}), "Invalid playlist file name: [${Height}]", "Playlist.FileName"),
        (
            playlists({**PLAYLIST, "renditions": [{"name": "r", "video": "x"}]}, videos=[{**V, "name": "v"}]),
            "Playlist Error",
            "Playlist.Rendition",
        ),
        (
            playlists({**PLAYLIST, "renditions": [{"name": "r", "audio": "audio_0"}]}),
            "Playlist Error",
            "Playlist.Rendition",
        ),
        (
            playlists({**PLAYLIST, "renditions": [{"name": "r"}, {"name": "r"}]}),
            "Duplicate rendition name: r",
            "Playlist.Rendition",
        ),
        (
            playlists({**PLAYLIST, "options": {"hLSChunklistPathDepth": 3}}),
            "HLSChunklistPathDepth must be between -1 and 2",
            "Playlist.Options.HLSChunklistPathDepth",
        ),
        (
            playlists(
                {**PLAYLIST, "rendition_templates": [{"name": "t", "video_template": {"encoding_type": "some"}}]}
            ),
            "EncodingType must be all, bypassed or encoded",
            "Playlist.RenditionTemplate.VideoTemplate.EncodingType",
        ),
        (playlists({"name": "x"}), "playlists.fileName is not optional", ""),
        (
            {"name": "p", "outputStreamName": "a/${OriginStreamName}"},
            "Invalid stream name: [a/${OriginStreamName}]",
            "OutputStreamName",
        ),
        ({"name": "", "outputStreamName": "a"}, "Invalid profile name: []", "Name"),
        ({"name": "p\n", "outputStreamName": "a"}, "Invalid profile name: [p\n]", ""),
    ],
)
def test_profiles(tmp_path: Path, value: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_json(models.OutputProfile, value)
    assert str(caught.value) == message
    if path:
        file = tmp_path / "Server.xml"
        body = f"<OutputProfiles><OutputProfile>{to_xml(models.OutputProfile, value)}</OutputProfile></OutputProfiles>"
        file.write_text(server(apps=application(body)))
        (fault,) = load_xml(file).faults
        assert fault.message == message
        assert fault.path.endswith(f".OutputProfiles.OutputProfile.{path}")


def test_unnamed_encodes_can_be_named_by_their_number() -> None:
    renditions = [{"name": "a", "video": "video_0", "audio": "sound"}, {"name": "b", "video": "video_1"}]
    value = playlists(
        {**PLAYLIST, "renditions": renditions}, videos=[V, {**V, "name": "v"}, V], audios=[{**V, "name": "sound"}]
    )
    assert load_json(models.OutputProfile, value).model.playlists[0].renditions[1].video == "video_1"


@pytest.mark.parametrize(
    ("model", "value", "message"),
    [
        (
            models.OutputProfiles,
            {"outputProfile": [{"name": "p", "outputStreamName": "s"}] * 2},
            "Duplicate output profile name: p",
        ),
        (
            models.Subtitles,
            {"defaultLabel": "E", "rendition": [{"label": "F", "language": "fr"}]},
            "DefaultLabel names no rendition: E",
        ),
        (
            models.RtspPullProvider,
            {"packetSilenceTimeoutMs": 5},
            "PacketSilenceTimeoutMs is not supported for this provider type: RtspPull",
        ),
        (
            models.FileProvider,
            {"packetSilenceTimeoutMs": 5},
            "PacketSilenceTimeoutMs is not supported for this provider type: File",
        ),
        (models.RtmpProvider, {"timestampMode": "Sometimes"}, "TimestampMode must be ZeroBased or Original"),
        (models.MpegtsStream, {"port": "70000/udp"}, "Invalid port: [70000/udp]"),
        (models.Capture, {"streams": [{"name": "a", "url": "pattern://"}] * 2}, "Duplicate capture stream name: a"),
        (models.CaptureStream, {"name": ".a", "url": "pattern://"}, "Invalid stream name: [.a]"),
        (models.LLHlsPublisher, {"chunkDuration": -1}, "ChunkDuration must be greater than 0"),
        (models.HlsPublisher, {"segmentCount": 0}, "SegmentCount must be greater than 0"),
        (models.WebRTCPublisher, {"bandwidthEstimation": "TWCC"}, "BandwidthEstimation must be REMB"),
        (models.AdmissionWebhooks, {"timeout": 0}, "Timeout must be greater than 0"),
        (models.Egress, {"allow": ["10.0.0.0/33"]}, "Invalid network: [10.0.0.0/33]"),
        (models.VirtualHost, {"name": "a:b"}, "Invalid virtual host name: [a:b]"),
    ],
)
def test_other_rules(model: type[Node], value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_json(model, value)
    assert str(caught.value) == message


def test_the_template_of_dynamic_applications_may_be_a_star() -> None:
    assert load_json(models.Application, {"name": "*", "type": "live"}).model.name == "*"


def test_silence_ends_a_stream_where_that_is_built() -> None:
    assert load_json(models.RtmpProvider, {"packetSilenceTimeoutMs": 5}).model.packet_silence_timeout_ms == 5
    assert models.MpegtsProvider().packet_silence_timeout_ms == 1500
    assert text_of(models.RtmpProvider().block_duplicate_stream_name) == "true"
