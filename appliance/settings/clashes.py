"""What only shows when the whole Server.xml is looked at: ports taken twice, TLS without a certificate."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.binder import Where
from appliance.settings.ports import parse_candidate, parse_ports

Found = tuple[Where, str, ConfigError]
"""The way to the setting in the raw tree, its path for a reader, and what is wrong."""


class Listener(msgspec.Struct, frozen=True):
    """Ports that one part opens. Parts of the same ``kind`` share theirs."""

    where: Where
    path: str
    kind: str
    transport: str
    ports: tuple[int, ...]


def server_faults(server: models.Server) -> Iterator[Found]:
    """Every clash of ``server``."""
    yield from _port_clashes(server.bind)
    yield from _tls_without_certificate(server)
    yield from _tls_only_without_port(server.bind)


def _port_clashes(bind: models.Bind) -> Iterator[Found]:
    taken: dict[tuple[str, int], Listener] = {}
    for listener in listeners(bind):
        for port in listener.ports:
            other = taken.setdefault((listener.transport, port), listener)
            if other.kind != listener.kind and port:
                message = f"Port {port}/{listener.transport} is already taken by {other.path}"
                yield listener.where, listener.path, ConfigError(message)
                break


def listeners(bind: models.Bind) -> Iterator[Listener]:
    """All that is opened, whichever part opens it."""
    if api := bind.managers.api:
        yield from _http(api, ("bind", "managers", "api"), "Server.Bind.Managers.API", "API")
    yield from _providers(bind.providers)
    yield from _publishers(bind.publishers)


def _providers(bind: models.BindProviders) -> Iterator[Listener]:
    where, path = ("bind", "providers"), "Server.Bind.Providers"
    if bind.rtmp:
        yield from _http(bind.rtmp, (*where, "rtmp"), f"{path}.RTMP", "RTMP")
    if bind.rtsp:
        yield Listener((*where, "rtsp", "port"), f"{path}.RTSP.Port", "RTSP", "tcp", (bind.rtsp.port,))
    if bind.mpegts:
        yield _datagrams((*where, "mpegts", "port"), f"{path}.MPEGTS.Port", "MPEG-TS", bind.mpegts.port, "udp")
    if bind.srt:
        yield from _srt(bind.srt, (*where, "srt"), f"{path}.SRT", "SRT provider")
    if bind.webrtc:
        yield from _webrtc(bind.webrtc, (*where, "webrtc"), f"{path}.WebRTC")


def _publishers(bind: models.BindPublishers) -> Iterator[Listener]:
    where, path = ("bind", "publishers"), "Server.Bind.Publishers"
    if bind.ovt:
        yield Listener((*where, "ovt", "port"), f"{path}.OVT.Port", "OVT", "tcp", (bind.ovt.port,))
    for name, part in (("LLHLS", bind.llhls), ("HLS", bind.hls), ("Thumbnail", bind.thumbnail)):
        if part:
            yield from _http(part, (*where, name.lower()), f"{path}.{name}", "HTTP")
    if bind.webrtc:
        yield from _webrtc(bind.webrtc, (*where, "webrtc"), f"{path}.WebRTC")
    if bind.srt:
        yield from _srt(bind.srt, (*where, "srt"), f"{path}.SRT", "SRT publisher")


def _http(
    part: models.BindApi | models.BindRtmp | models.BindHttp | models.Signalling, where: Where, path: str, kind: str
) -> Iterator[Listener]:
    if not getattr(part, "tls_only", False):
        yield Listener((*where, "port"), f"{path}.Port", kind, "tcp", (part.port,))
    if part.tls_port is not None:
        yield Listener((*where, "tlsPort"), f"{path}.TLSPort", f"{kind} with TLS", "tcp", (part.tls_port,))


def _webrtc(part: models.BindWebRTC, where: Where, path: str) -> Iterator[Listener]:
    if part.signalling:
        yield from _http(part.signalling, (*where, "signalling"), f"{path}.Signalling", "HTTP")
    if ice := part.ice_candidates:
        where, path = (*where, "iceCandidates"), f"{path}.IceCandidates"
        for key, name, kind, protocol, texts in (
            ("iceCandidate", "IceCandidate", "ICE", "udp", ice.ice_candidate),
            ("tcpRelay", "TcpRelay", "TURN", "tcp", ice.tcp_relay),
        ):
            for index, text in enumerate(texts):
                yield _candidate((*where, key, index), f"{path}.{name}", kind, text, protocol)


def _candidate(where: Where, path: str, kind: str, text: str, protocol: str) -> Listener:
    try:
        ports = parse_candidate(text, protocol).ports
    except ConfigError:
        return Listener(where, path, kind, protocol, ())
    return Listener(where, path, kind, ports.protocol, ports.numbers)


def _srt(part: models.BindSrt, where: Where, path: str, kind: str) -> Iterator[Listener]:
    yield _datagrams((*where, "port"), f"{path}.Port", kind, part.port, "srt")
    for index, stream in enumerate(part.stream_map):
        yield _datagrams((*where, "streamMap", index), f"{path}.StreamMap.Stream", kind, stream.port, "srt")


def _datagrams(where: Where, path: str, kind: str, text: str, protocol: str) -> Listener:
    try:
        ports = parse_ports(text, protocol)
    except ConfigError:
        return Listener(where, path, kind, "udp", ())  # a rule has said so already
    return Listener(where, path, kind, "tcp" if ports.protocol == "tcp" else "udp", ports.numbers)


def _tls_without_certificate(server: models.Server) -> Iterator[Found]:
    hint = "Name CertPath and KeyPath there, or write SelfSigned, or leave TLSPort out."
    api = server.bind.managers.api
    if api and api.tls_port is not None and not _complete(server.managers.host.tls):
        message = "TLSPort needs a certificate: Server.Managers.Host.TLS"
        where = ("bind", "managers", "api", "tlsPort")
        yield where, "Server.Bind.Managers.API.TLSPort", ConfigError(message, hint=hint)
    managers = server.managers.host.tls
    if (managers and managers.self_signed) or any(_complete(vhost.host.tls) for vhost in server.virtual_hosts):
        return
    for listener in listeners(server.bind):
        if listener.path.endswith(".TLSPort") and listener.kind != "API with TLS":
            message = "TLSPort needs a certificate: Server.VirtualHosts.VirtualHost.Host.TLS"
            yield listener.where, listener.path, ConfigError(message, hint=hint)


def _complete(tls: models.TLS | None) -> bool:
    return bool(tls and ((tls.cert_path and tls.key_path) or tls.self_signed))


def _tls_only_without_port(bind: models.Bind) -> Iterator[Found]:
    for group, name, element in (
        ("managers", "api", "Managers.API"), ("publishers", "llhls", "Publishers.LLHLS"),
        ("publishers", "hls", "Publishers.HLS"), ("publishers", "thumbnail", "Publishers.Thumbnail"),
    ):  # fmt: skip
        part: models.BindApi | models.BindHttp | None = getattr(getattr(bind, group), name)
        if part is not None and part.tls_only and part.tls_port is None:
            message = f"Server.Bind.{element}.TLSOnly needs a TLSPort, or nothing is opened"
            yield ("bind", group, name, "tlsOnly"), f"Server.Bind.{element}.TLSOnly", ConfigError(message)
