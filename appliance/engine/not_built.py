"""What a configuration asks for and this version does not have: told one by one, and refused where it guards something.

A policy or webhook that can't be enforced fails closed: the protocols it lists are refused in its virtual host.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from appliance.settings import models
from appliance.settings.models.providers import Provider

NOT_ENFORCED = "not enforced in this version"

#: Attribute of Providers or Publishers -> its element in Server.xml.
PROVIDERS = {
    "rtsp": "RTSP", "webrtc": "WebRTC", "ovt": "OVT",
}  # fmt: skip
PUBLISHERS = {
    "webrtc": "WebRTC", "ovt": "OVT",
    "mpegts_push": "MPEGTSPush", "rtmp_push": "RTMPPush", "srt_push": "SRTPush",
}  # fmt: skip


#: Attribute of Bind/Providers and Bind/Publishers -> its element, of those that open no port.
BOUND_PROVIDERS = {"rtsp": "RTSP", "webrtc": "WebRTC"}
BOUND_PUBLISHERS = {"webrtc": "WebRTC", "ovt": "OVT"}


def without_effect(server: models.Server) -> Iterator[tuple[str, str]]:
    """``(path, what follows)`` of each thing that is set and not built."""
    if server.type.lower() == "edge":
        yield "Server/Type", "it is an origin: no streams of others are repeated"
    if server.stun_server:
        yield "Server/StunServer", "nobody is asked for the public address"
    if server.privacy_protection:
        yield "Server/PrivacyProtection", "addresses of viewers are logged whole"
    if server.alert is not None:
        yield "Server/Alert", "no notification is sent"
    if server.analytics is not None:
        yield "Server/Analytics", "no events log is written"
    if server.modules.p2p.enable:
        yield "Server/Modules/P2P", "off"
    if server.modules.recovery.enable:
        yield "Server/Modules/Recovery", "off"
    yield from _of_bind(server.bind)
    for vhost in server.virtual_hosts:
        yield from _of_vhost(vhost)


def _of_bind(bind: models.Bind) -> Iterator[tuple[str, str]]:
    for group, part, elements in (
        ("Providers", bind.providers, BOUND_PROVIDERS),
        ("Publishers", bind.publishers, BOUND_PUBLISHERS),
    ):
        for attr, element in elements.items():
            if getattr(part, attr) is not None:
                yield f"Server/Bind/{group}/{element}", "port not opened"


def without_effect_in(vhost: models.VirtualHost, *applications: models.Application) -> Iterator[tuple[str, str]]:
    """The same of one virtual host and these of its applications. Paths begin with ``VirtualHost <name>/``, and those
    of an application go on with ``Application <name>/``."""
    yield from _of_vhost(msgspec.structs.replace(vhost, applications=applications))


def _of_vhost(vhost: models.VirtualHost) -> Iterator[tuple[str, str]]:
    path = f"VirtualHost {vhost.name}"
    for element, guard in (("SignedPolicy", vhost.signed_policy), ("AdmissionWebhooks", vhost.admission_webhooks)):
        if guard is not None:
            listed = ", ".join(filter(None, (guard.enables.providers, guard.enables.publishers))) or "none"
            yield f"{path}/{element}", f"{NOT_ENFORCED}: what it lists is refused ({listed})"
    for origin in vhost.origins.origins:
        if origin.failback:
            yield f"{path}/Origin {origin.location}/Failback", "the address in use stays until it fails"
        if origin.relay:
            yield f"{path}/Origin {origin.location}/Relay", "the output profiles of the application hold"
    if vhost.origin_map_store is not None:
        yield f"{path}/OriginMapStore", "off"
    for application in vhost.applications:
        yield from _of_application(f"{path}/Application {application.name}", application)


def _of_application(path: str, application: models.Application) -> Iterator[tuple[str, str]]:
    for attr, element in PROVIDERS.items():
        if getattr(application.providers, attr) is not None:
            yield f"{path}/Providers/{element}", "off"
    for attr, element in PUBLISHERS.items():
        if getattr(application.publishers, attr) is not None:
            yield f"{path}/Publishers/{element}", "off"
    for element, provider in (
        ("RTMP", application.providers.rtmp), ("SRT", application.providers.srt),
        ("MPEGTS", application.providers.mpegts),
    ):  # fmt: skip
        if provider is not None:
            yield from _of_times(f"{path}/Providers/{element}", provider)
    if (llhls := application.publishers.llhls) is not None:
        yield from _of_llhls(f"{path}/Publishers/LLHLS", llhls)
    if (hls := application.publishers.hls) is not None:
        yield from _of_hls(f"{path}/Publishers/HLS", hls)
    if application.transcode_webhook is not None and application.transcode_webhook.enable:
        yield f"{path}/TranscodeWebhook", "the local output profiles are used"
    if application.event_generator.enable:
        yield f"{path}/EventGenerator", "it makes SEI and AMF events, which no way out carries"
    if application.publishers.delay_buffer_time_ms:
        yield f"{path}/Publishers/DelayBufferTimeMs", "nothing is delayed"
    yield from _of_profiles(f"{path}/OutputProfiles", application.output_profiles)


def _of_times(path: str, provider: Provider) -> Iterator[tuple[str, str]]:
    if provider.timestamp_mode.lower() == "original":
        yield f"{path}/TimestampMode", "times start at zero"
    if provider.use_incoming_timestamp:
        yield f"{path}/UseIncomingTimestamp", "times start at zero"


def _of_llhls(path: str, llhls: models.LLHlsPublisher) -> Iterator[tuple[str, str]]:
    if llhls.drm.enable:
        yield f"{path}/DRM", "nothing is encrypted"


def _of_hls(path: str, hls: models.HlsPublisher) -> Iterator[tuple[str, str]]:
    if hls.origin_mode:
        yield f"{path}/OriginMode", "viewers are counted, and segments kept, as without it"
    usual = models.CacheControl().chunklist_with_directives_max_age
    if hls.cache_control.chunklist_with_directives_max_age != usual:
        yield f"{path}/CacheControl/ChunklistWithDirectivesMaxAge", "HLS of version 3 has no directives"
    if hls.default_query_string.queries:
        yield f"{path}/DefaultQueryString", "requests are taken as they come"
    if hls.dvr.enable:
        yield f"{path}/DVR", "viewers can't rewind further than the playlist"
    if any(dump.enable for dump in hls.dumps):
        yield f"{path}/Dumps", "nothing is copied to disk"


def _of_profiles(path: str, profiles: models.OutputProfiles) -> Iterator[tuple[str, str]]:
    subtitles = profiles.media_options.subtitles
    if subtitles.enable and any(each.transcription is not None for each in subtitles.renditions):
        yield f"{path}/MediaOptions/Subtitles/Rendition/Transcription", "no speech is turned into text"
    if profiles.media_options.overlays.enable:
        yield f"{path}/MediaOptions/Overlays", "nothing is drawn"
    if profiles.hwaccels.decoder.enable:
        yield f"{path}/HWAccels/Decoder", "decoding is done in software"
    if profiles.hardware_acceleration:
        yield f"{path}/HardwareAcceleration", "software, unless HWAccels says otherwise"
    if profiles.decodes.only_keyframes:
        yield f"{path}/Decodes/OnlyKeyframes", "every frame is decoded"


def refused_providers(vhost: models.VirtualHost) -> frozenset[str]:
    """Upper-case names of the input protocols that a guard of ``vhost`` lists."""
    return _listed(*(guard.enables.providers for guard in _guards(vhost)))


def refused_publishers(vhost: models.VirtualHost) -> frozenset[str]:
    """Upper-case names of the output protocols that a guard of ``vhost`` lists."""
    return _listed(*(guard.enables.publishers for guard in _guards(vhost)))


def _guards(vhost: models.VirtualHost) -> Iterator[models.SignedPolicy | models.AdmissionWebhooks]:
    for guard in (vhost.signed_policy, vhost.admission_webhooks):
        if guard is not None:
            yield guard


def _listed(*texts: str) -> frozenset[str]:
    return frozenset(name.strip().upper() for text in texts for name in text.split(",") if name.strip())
