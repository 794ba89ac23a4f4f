"""The rules that settings keep (catalogue 3.3 and DECISIONS), one function a rule, for XML and JSON alike.

A rule gets the model and the names of the attributes that were given, and yields what is broken.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.names import NameKind, check_name
from appliance.settings.ports import parse_candidate, parse_ports
from appliance.settings.schema import Node

Given = frozenset[str]


class Broken(ConfigError):
    """A broken rule; ``at`` leads from the model to the setting: attributes and indexes."""

    def __init__(self, message: str, *at: str | int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.at = at


Rule = Callable[[Any, Given], Iterator[Broken]]


def named(kind: NameKind, attr: str = "name", *, macros: bool = False, wildcard: bool = False) -> Rule:
    """The name keeps its grammar. ``wildcard``: ``*`` alone is allowed too."""

    def rule(model: Any, given: Given) -> Iterator[Broken]:
        value = getattr(model, attr)
        if attr not in given or (wildcard and value == "*"):
            return
        try:
            check_name(kind, value, macros=macros)
        except ConfigError as error:
            yield Broken(str(error), attr, hint=error.hint)

    return rule


def distinct(attr: str, key: str, message: str) -> Rule:
    """No two items have the same ``key``; the message gets the name that is there twice."""

    def rule(model: Any, given: Given) -> Iterator[Broken]:
        seen = set()
        for index, item in enumerate(getattr(model, attr)):
            name = getattr(item, key)
            if name in seen:
                yield Broken(message.format(name), attr, index)
            seen.add(name)

    return rule


def one_of(attr: str, allowed: Iterable[str], message: str) -> Rule:
    """Any of these words, whatever the case."""
    words = frozenset(word.lower() for word in allowed)

    def rule(model: Any, given: Given) -> Iterator[Broken]:
        if attr in given and getattr(model, attr).lower() not in words:
            yield Broken(message, attr)

    return rule


def between(attr: str, low: float, high: float, message: str) -> Rule:
    def rule(model: Any, given: Given) -> Iterator[Broken]:
        if attr in given and not low <= getattr(model, attr) <= high:
            yield Broken(message, attr)

    return rule


def positive(attr: str, name: str) -> Rule:
    def rule(model: Any, given: Given) -> Iterator[Broken]:
        if not getattr(model, attr) > 0:
            yield Broken(f"{name} must be greater than 0", attr)

    return rule


def codec_and_bitrate(encode: models.VideoEncode | models.AudioEncode, given: Given) -> Iterator[Broken]:
    if not encode.bypass and not encode.codec:
        yield Broken("Codec must be specified when bypass is false", "codec")
    if "bitrate" in given:
        if encode.bitrate <= 0:
            yield Broken("Bitrate must be greater than 0", "bitrate")
    elif not encode.bypass:
        yield Broken("Bitrate must be specified when bypass is false", "bitrate")


def key_frame_interval(encode: models.VideoEncode, given: Given) -> Iterator[Broken]:
    if "key_frame_interval" not in given:
        return
    if encode.key_frame_interval_type.lower() == "time":
        if not 1 <= encode.key_frame_interval <= 10000:
            yield Broken("KeyFrameInterval must be between 0 and 10000", "key_frame_interval")
    elif not 0 <= encode.key_frame_interval <= 600:
        yield Broken("KeyFrameInterval must be between 0 and 600", "key_frame_interval")


def bypass_bitrate(match: models.VideoBypassIfMatch | models.AudioBypassIfMatch, given: Given) -> Iterator[Broken]:
    if "bitrate" in given:
        yield Broken("BypassIfMatch.Bitrate is not yet supported", "bitrate")


def compared(attr: str) -> Rule:
    message = f"BypassIfMatch.{attr.capitalize()} must specified only one of eq, lte, gte"
    return one_of(attr, ("eq", "lte", "gte"), message)


def renditions_name_encodes(profile: models.OutputProfile, given: Given) -> Iterator[Broken]:
    videos = _encode_names("video", profile.encodes.videos) | _encode_names("image", profile.encodes.images)
    audios = _encode_names("audio", profile.encodes.audios)
    for at, playlist in enumerate(profile.playlists):
        for index, rendition in enumerate(playlist.renditions):
            for name, known in ((rendition.video, videos), (rendition.audio, audios)):
                if name and name not in known:
                    hint = f"The rendition [{rendition.name}] names an encode that is not in the profile: [{name}]"
                    yield Broken("Playlist Error", "playlists", at, "renditions", index, hint=hint)


def _encode_names(kind: str, encodes: Iterable[Any]) -> set[str]:
    names = [encode.name for encode in encodes]
    unnamed = sum(not name for name in names)
    return {name for name in names if name} | {f"{kind}_{number}" for number in range(unnamed)}


def application_type(application: models.Application, given: Given) -> Iterator[Broken]:
    if "type" in given and application.type != "live":
        yield Broken(f"Unknown type: {application.type}", "type")


def hold_times(application: models.Application, given: Given) -> Iterator[Broken]:
    if not 100 <= application.stall_ms <= 3_600_000:
        yield Broken(f"StallMs must be from 100 to 3600000: {application.stall_ms}", "stall_ms")
    if application.hold_ms < 0:
        yield Broken(f"HoldMs must be 0 or more: {application.hold_ms}", "hold_ms")


def default_label(subtitles: models.Subtitles, given: Given) -> Iterator[Broken]:
    labels = {rendition.label for rendition in subtitles.renditions}
    if subtitles.default_label and subtitles.default_label not in labels:
        yield Broken(f"DefaultLabel names no rendition: {subtitles.default_label}", "default_label")


def no_silence_timeout(kind: str) -> Rule:
    def rule(provider: models.Provider, given: Given) -> Iterator[Broken]:
        if "packet_silence_timeout_ms" in given:
            message = f"PacketSilenceTimeoutMs is not supported for this provider type: {kind}"
            yield Broken(message, "packet_silence_timeout_ms")

    return rule


_HOST_PORT = re.compile(r"(\[[^\]]+\]|[^:\s]+):([0-9]{1,5})")


def redis_host(redis: models.RedisServer, given: Given) -> Iterator[Broken]:
    match = _HOST_PORT.fullmatch(redis.host)
    if "host" in given and not (match and 0 < int(match[2]) < 65536):
        yield Broken(f"RedisServer.Host must be host:port: [{redis.host}]", "host")


def ports(attr: str, protocol: str, *allowed: str) -> Rule:
    def rule(model: Any, given: Given) -> Iterator[Broken]:
        try:
            found = parse_ports(getattr(model, attr), protocol)
        except ConfigError as error:
            yield Broken(str(error), attr, hint=error.hint)
            return
        if found.protocol not in (protocol, *allowed):
            yield Broken(f"Invalid port: [{getattr(model, attr)}]", attr, hint=f"The protocol here is {protocol}.")

    return rule


def _multicast(model: models.MpegtsStream, given: Given) -> Iterator[Broken]:
    if not model.group:
        return
    try:
        group = ipaddress.ip_address(model.group)
    except ValueError:
        group = None
    if group is None or not group.is_multicast:
        yield Broken(f"Invalid multicast group: [{model.group[:60]}]", "group", hint="An address such as 239.1.1.1.")


def candidates(attr: str, protocol: str) -> Rule:
    def rule(model: models.IceCandidates, given: Given) -> Iterator[Broken]:
        for index, text in enumerate(getattr(model, attr)):
            try:
                parse_candidate(text.replace("${PublicIP}", "*"), protocol)
            except ConfigError as error:
                yield Broken(str(error), attr, index, hint=error.hint)

    return rule


def egress_networks(egress: models.Egress, given: Given) -> Iterator[Broken]:
    for index, text in enumerate(egress.allow):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Broken(f"Invalid network: [{text}]", "allow", index, hint="Write it as 10.0.0.0/8 or 192.0.2.7.")


def listen_addresses(server: models.Server, given: Given) -> Iterator[Broken]:
    for index, text in enumerate(server.ip):
        try:
            if text != "*":
                ipaddress.ip_address(text)
        except ValueError:
            yield Broken(f"Invalid IP: [{text}]", "ip", index, hint="Write *, :: or an address of this machine.")


_DECODED = "BypassIfMatch.Codec must be specified only eq"
_TYPES = ("all", "bypassed", "encoded")
_SIZES = tuple(
    between(attr, 0, 16384, f"{attr.capitalize()} must be between 0 and 16384") for attr in ("width", "height")
)
_PICTURES = (*_SIZES, between("framerate", 0, 1000, "Framerate must be between 0 and 1000"))
_SEGMENTS = (
    positive("segment_duration", "SegmentDuration"),
    positive("segment_count", "SegmentCount"),
)
_TIMESTAMPS = one_of("timestamp_mode", ("ZeroBased", "Original", ""), "TimestampMode must be ZeroBased or Original")
_HTTP_TIMEOUT = positive("timeout", "Timeout")

def reached_one_way(camera: models.PtzCamera, given: Given) -> Iterator[Broken]:
    if bool(camera.device) == bool(camera.host):
        yield Broken("A camera has either a Device or a Host", "device" if camera.device else "name")


def keyed_stream(box: models.Box, given: Given) -> Iterator[Broken]:
    if box.stream and (box.stream.count("/") != 2 or not all(box.stream.split("/"))):
        yield Broken("Stream is <virtual host>/<application>/<stream>", "stream")


RULES: dict[type[Node], tuple[Rule, ...]] = {
    models.Server: (
        one_of("type", ("origin", "edge"), "Type must be origin or edge"),
        listen_addresses,
        distinct("virtual_hosts", "name", "Duplicate virtual host name: {}"),
    ),
    models.Egress: (egress_networks,),
    models.Box: (
        distinct("cameras", "name", "Duplicate camera name: {}"),
        distinct("lines", "name", "Duplicate line name: {}"),
        keyed_stream,
    ),
    models.PtzCamera: (
        named("stream"),
        between("address", 1, 7, "Address is 1 to 7"),
        reached_one_way,
    ),
    models.FrontPanel: (
        one_of("make", ("crystalfontz", "matrixorbital"), "Make must be crystalfontz or matrixorbital"),
    ),
    models.GpioLine: (
        named("stream"),
        between("offset", 0, 1023, "Offset is 0 to 1023"),
        one_of(
            "role", ("on-air", "recording", "output", "record-button", "push-button"),
            "Role must be on-air, recording, output, record-button or push-button",
        ),
    ),
    models.FrontLed: (one_of("shows", ("on-air", "recording"), "Shows must be on-air or recording"),),
    models.Shedding: (
        between("temperature", 40, 120, "Temperature is 40 to 120"),
        between("load", 50, 100, "Load is 50 to 100"),
    ),
    models.BindMpegts: (ports("port", "udp", "tcp"),),
    models.BindSrt: (ports("port", "srt", "udp"),),
    models.BindSrtPublisher: (ports("port", "srt", "udp"),),
    models.SrtStream: (ports("port", "srt", "udp"),),
    models.IceCandidates: (candidates("ice_candidate", "udp"), candidates("tcp_relay", "tcp")),
    models.VirtualHost: (
        named("virtual host"),
        distinct("applications", "name", "Duplicate application name: {}"),
    ),
    models.RedisServer: (redis_host,),
    models.AdmissionWebhooks: (_HTTP_TIMEOUT,),
    models.TranscodeWebhook: (_HTTP_TIMEOUT,),
    models.Application: (
        named("application", wildcard=True), application_type,
        one_of("on_input_loss", ("end", "hold", ""), "OnInputLoss must be end or hold"),
        hold_times,
    ),
    models.Subtitles: (default_label,),
    models.SubtitleRendition: (named("label", "label"),),
    models.OutputProfiles: (distinct("profiles", "name", "Duplicate output profile name: {}"),),
    models.OutputProfile: (
        named("profile"),
        named("stream", "output_stream_name", macros=True),
        distinct("playlists", "file_name", "Duplicate playlist file name: {}"),
        renditions_name_encodes,
    ),
    models.VideoEncode: (
        named("encode"),
        codec_and_bitrate,
        *_PICTURES,
        between("skip_frames", 0, 120, "SkipFrames must be between 0 and 120"),
        one_of(
            "preset",
            ("slower", "slow", "medium", "fast", "faster"),
            "Preset must be slower, slow, medium, fast, or faster",
        ),
        one_of("key_frame_interval_type", ("frame", "time"), "KeyFrameIntervalType must be frame or time"),
        key_frame_interval,
        between("b_frames", 0, 16, "BFrames must be between 0 and 16"),
        one_of("profile", ("baseline", "main", "high"), "Profile must be baseline, main or high"),
    ),
    models.AudioEncode: (named("encode"), codec_and_bitrate),
    models.ImageEncode: (
        named("encode"),
        *_PICTURES,
        between("skip_frames", 0, 120, "SkipFrames must be between 0 and 120"),
    ),
    models.VideoBypassIfMatch: (
        one_of("codec", ("eq",), _DECODED),
        bypass_bitrate,
        compared("framerate"),
        compared("width"),
        compared("height"),
        one_of("sar", ("eq",), "BypassIfMatch.SAR must be specified only eq"),
    ),
    models.AudioBypassIfMatch: (
        one_of("codec", ("eq",), _DECODED),
        bypass_bitrate,
        compared("samplerate"),
        compared("channel"),
    ),
    models.Playlist: (
        named("playlist"),
        named("playlist file", "file_name"),
        distinct("renditions", "name", "Duplicate rendition name: {}"),
    ),
    models.PlaylistOptions: (
        between("hls_chunklist_path_depth", -1, 2, "HLSChunklistPathDepth must be between -1 and 2"),
    ),
    models.Rendition: (named("rendition"),),
    models.RenditionTemplate: (named("rendition", macros=True),),
    models.VideoTemplate: (one_of("encoding_type", _TYPES, "EncodingType must be all, bypassed or encoded"),),
    models.AudioTemplate: (one_of("encoding_type", _TYPES, "EncodingType must be all, bypassed or encoded"),),
    models.RtmpProvider: (_TIMESTAMPS,),
    models.SrtProvider: (_TIMESTAMPS,),
    models.WebRTCProvider: (_TIMESTAMPS,),
    models.MpegtsProvider: (_TIMESTAMPS,),
    models.MultiplexProvider: (_TIMESTAMPS,),
    models.RtspPullProvider: (_TIMESTAMPS, no_silence_timeout("RtspPull")),
    models.HlsPullProvider: (_TIMESTAMPS, no_silence_timeout("HlsPull")),
    models.RtspProvider: (_TIMESTAMPS, no_silence_timeout("Rtsp")),
    models.OvtProvider: (_TIMESTAMPS, no_silence_timeout("Ovt")),
    models.FileProvider: (_TIMESTAMPS, no_silence_timeout("File")),
    models.ScheduleProvider: (_TIMESTAMPS, no_silence_timeout("Scheduled")),
    models.MpegtsStream: (named("stream", macros=True), ports("port", "udp", "tcp"), _multicast),
    models.Capture: (distinct("streams", "name", "Duplicate capture stream name: {}"),),
    models.CaptureStream: (named("stream"),),
    models.FileStream: (named("stream"),),
    models.HlsPublisher: _SEGMENTS,
    models.LLHlsPublisher: (
        *_SEGMENTS,
        positive("chunk_duration", "ChunkDuration"),
        between("part_hold_back", 0, 3600, "PartHoldBack must be between 0 and 3600"),
    ),
    models.Retention: (
        between("max_age", 0, 10**10, "MaxAge must not be negative"),
        between("max_size", 0, 2**62, "MaxSize must not be negative"),
        between("reserve", 0, 50, "Reserve must be between 0 and 50"),
    ),
    models.WebRTCPublisher: (one_of("bandwidth_estimation", ("REMB", ""), "BandwidthEstimation must be REMB"),),
}


def broken_rules(model: Node, given: Given) -> Iterator[Broken]:
    """All rules that ``model`` breaks; ``given`` are the attributes that were written."""
    for rule in RULES.get(type(model), ()):
        yield from rule(model, given)
