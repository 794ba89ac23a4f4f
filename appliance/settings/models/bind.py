"""Server/Bind: which ports are opened (catalogue 5.2). A part that is absent opens none."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.schema import Listed, Named, Node, Port, Ports


class BindWorkers(Node, frozen=True, kw_only=True):
    """A part without ports of its own (pull clients)."""

    worker_count: int = 1


class BindApi(BindWorkers, frozen=True, kw_only=True):
    """The management API. ``tls_port`` needs Managers/Host/TLS. ``tls_only`` is Kiln's own: ``port`` is not opened."""

    port: Port = 8081
    tls_port: Annotated[Port | None, Named("TLSPort", "tlsPort")] = None
    tls_only: Annotated[bool, Named("TLSOnly", "tlsOnly")] = False


class BindManagers(Node, frozen=True, kw_only=True):
    api: Annotated[BindApi | None, Named("API", "api")] = None


class BindRtmp(BindWorkers, frozen=True, kw_only=True):
    port: Port = 1935
    tls_port: Annotated[Port | None, Named("TLSPort", "tlsPort")] = None
    thread_per_socket: bool = False


class BindRtsp(BindWorkers, frozen=True, kw_only=True):
    port: Port = 554


class BindMpegts(BindWorkers, frozen=True, kw_only=True):
    port: Ports = "4000/udp"


class SrtOption(Node, frozen=True, kw_only=True):
    """A libsrt socket option by name, such as ``SRTO_LATENCY``."""

    key: str
    value: str


class SrtStream(Node, frozen=True, kw_only=True):
    """Which stream a port of its own takes: ``stream_path`` is ``vhost/app/stream``."""

    port: Ports
    stream_path: str


class BindSrt(BindWorkers, frozen=True, kw_only=True):
    port: Ports = "9999/srt"
    options: Annotated[tuple[SrtOption, ...], Listed("Option", "Options")] = ()
    stream_map: Annotated[tuple[SrtStream, ...], Listed("Stream", "StreamMap")] = ()


class BindSrtPublisher(BindSrt, frozen=True, kw_only=True):
    port: Ports = "9998/srt"


class Signalling(BindWorkers, frozen=True, kw_only=True):
    """WebSocket signalling, WHIP and WHEP. May share its ports with LLHLS, HLS and Thumbnail."""

    port: Port = 3333
    tls_port: Annotated[Port | None, Named("TLSPort", "tlsPort")] = None


class IceCandidates(Node, frozen=True, kw_only=True):
    """``address:port[-port]/udp`` of each candidate, ``address:port`` of each TURN relay; ``*`` is every address."""

    ice_candidate: Annotated[tuple[str, ...], Listed("IceCandidate", json="iceCandidate")] = ("*:10000/udp",)
    tcp_relay: Annotated[tuple[str, ...], Listed("TcpRelay", json="tcpRelay")] = ()
    tcp_force: bool = False
    tcp_relay_worker_count: int = 1
    ice_worker_count: int = 1
    enable_link_local_address: bool = False


class IceServer(Node, frozen=True, kw_only=True):
    urls: Annotated[tuple[str, ...], Listed("Url", "Urls", nested=True)] = ()
    user_name: str = ""
    credential: str = ""


class BindWebRTC(Node, frozen=True, kw_only=True):
    signalling: Signalling | None = None
    ice_candidates: IceCandidates | None = None
    ice_servers: Annotated[tuple[IceServer, ...], Listed("IceServer", "IceServers", nested=True)] = ()


class BindOvt(BindWorkers, frozen=True, kw_only=True):
    port: Port = 9000


class BindHttp(BindWorkers, frozen=True, kw_only=True):
    """A publisher over HTTP. May share its ports with the other HTTP publishers and WebRTC signalling. ``tls_only`` is
    Kiln's own: ``port`` is not opened for this one."""

    port: Port = 3333
    tls_port: Annotated[Port | None, Named("TLSPort", "tlsPort")] = None
    tls_only: Annotated[bool, Named("TLSOnly", "tlsOnly")] = False


class BindProviders(Node, frozen=True, kw_only=True):
    rtmp: Annotated[BindRtmp | None, Named("RTMP", "rtmp")] = None
    rtsp: Annotated[BindRtsp | None, Named("RTSP", "rtsp")] = None
    rtspc: Annotated[BindWorkers | None, Named("RTSPC", "rtspc")] = None
    ovt: Annotated[BindWorkers | None, Named("OVT", "ovt")] = None
    mpegts: Annotated[BindMpegts | None, Named("MPEGTS", "mpegts")] = None
    srt: Annotated[BindSrt | None, Named("SRT", "srt")] = None
    webrtc: Annotated[BindWebRTC | None, Named("WebRTC", "webrtc")] = None


class BindPublishers(Node, frozen=True, kw_only=True):
    ovt: Annotated[BindOvt | None, Named("OVT", "ovt")] = None
    llhls: Annotated[BindHttp | None, Named("LLHLS", "llhls")] = None
    hls: Annotated[BindHttp | None, Named("HLS", "hls")] = None
    thumbnail: BindHttp | None = None
    webrtc: Annotated[BindWebRTC | None, Named("WebRTC", "webrtc")] = None
    srt: Annotated[BindSrtPublisher | None, Named("SRT", "srt")] = None


class Bind(Node, frozen=True, kw_only=True):
    managers: BindManagers = BindManagers()
    providers: BindProviders = BindProviders()
    publishers: BindPublishers = BindPublishers()
