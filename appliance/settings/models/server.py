"""Server: the whole file, its modules, managers and alerts (catalogue 5.1, 5.3, 5.4, 6.5)."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.models.bind import Bind
from appliance.settings.models.box import Box
from appliance.settings.models.common import TLS, CrossDomains
from appliance.settings.models.virtual_host import VirtualHost
from appliance.settings.schema import Attribute, Bitrate, Flag, Listed, Named, Node


class SwitchOn(Node, frozen=True, kw_only=True):
    enable: bool = True


class SwitchOff(Node, frozen=True, kw_only=True):
    enable: bool = False


class P2P(SwitchOff, frozen=True, kw_only=True):
    max_client_peers_per_host_peer: int = 2


class Recovery(SwitchOff, frozen=True, kw_only=True):
    """``delete_lazy_stream_timeout`` ms."""

    delete_lazy_stream_timeout: int = 0


class Egress(Node, frozen=True, kw_only=True):
    """Kiln's own: networks (``127.0.0.0/8``) that URLs from the API may reach although they are the box itself
    or link-local."""

    allow: Annotated[tuple[str, ...], Listed("Allow", json="allow")] = ()


class Modules(Node, frozen=True, kw_only=True):
    """``media_root`` is Kiln's own: the folder of all paths from the API; "" is ``media`` in the state folder."""

    http2: Annotated[SwitchOn, Named("HTTP2")] = SwitchOn()
    llhls: Annotated[SwitchOn, Named("LLHLS", "llhls")] = SwitchOn()
    p2p: Annotated[P2P, Named("P2P", "p2p")] = P2P()
    recovery: Recovery = Recovery()
    dynamic_app_removal: SwitchOff = SwitchOff()
    etag: Annotated[SwitchOff, Named("ETag")] = SwitchOff()
    ertmp: Annotated[SwitchOff, Named("ERTMP")] = SwitchOff()
    media_root: str = ""
    egress: Egress = Egress()


class ManagersHost(Node, frozen=True, kw_only=True):
    """The host names that the API answers to, and its certificate."""

    names: Annotated[tuple[str, ...], Listed("Name", "Names")] = ()
    tls: Annotated[TLS | None, Named("TLS", "tls")] = None


class ApiStorage(Node, frozen=True, kw_only=True):
    enabled: bool = True
    path: str = "conf/api_data"


class ManagersApi(Node, frozen=True, kw_only=True):
    """``access_token`` "" leaves it to the token made at first start."""

    access_token: str = ""
    storage: ApiStorage = ApiStorage()
    cross_domains: CrossDomains | None = None


class Managers(Node, frozen=True, kw_only=True):
    host: ManagersHost = ManagersHost()
    api: Annotated[ManagersApi | None, Named("API", "api")] = None


class IngressRules(Node, frozen=True, kw_only=True):
    """Bitrates bit/s, frame rates fps, sizes px, samplerates Hz; 0 is off."""

    stream_status: Flag = False
    min_bitrate: Bitrate = 0
    max_bitrate: Bitrate = 0
    min_framerate: float = 0.0
    max_framerate: float = 0.0
    min_width: int = 0
    max_width: int = 0
    min_height: int = 0
    max_height: int = 0
    min_samplerate: int = 0
    max_samplerate: int = 0
    long_key_frame_interval: Flag = False
    has_bframes: Annotated[Flag, Named("HasBFrames")] = False


class EgressRules(Node, frozen=True, kw_only=True):
    stream_status: Flag = False
    llhls_ready: Annotated[Flag, Named("LLHLSReady")] = False
    hls_ready: Annotated[Flag, Named("HLSReady")] = False
    transcode_status: Flag = False


class AlertRules(Node, frozen=True, kw_only=True):
    ingress: IngressRules = IngressRules()
    egress: EgressRules = EgressRules()
    internal_queue_congestion: Flag = False


class Alert(Node, frozen=True, kw_only=True):
    """``timeout`` ms. ``rules_file`` holds a ``<Rules>`` of its own."""

    url: str = ""
    secret_key: str = ""
    timeout: int = 0
    rules_file: str = ""
    rules: AlertRules = AlertRules()


class Forwarding(Node, frozen=True, kw_only=True):
    enable: bool = False
    collector: str = "tcp://collector.ovenconsole.io:21514"


class Analytics(Node, frozen=True, kw_only=True):
    user_key: str = ""
    forwarding: Forwarding = Forwarding()


class Defaults(Node, frozen=True, kw_only=True):
    cross_domains: CrossDomains | None = None


class Server(Node, frozen=True, kw_only=True):
    """The root. ``ip`` are the addresses to listen on: ``*``, ``::`` or an address each; ``type`` origin or edge."""

    version: Annotated[int, Attribute()]
    name: str = ""
    type: str
    ip: Annotated[tuple[str, ...], Listed("IP", json="ip")]
    stun_server: str = ""
    privacy_protection: bool = False
    bind: Bind
    modules: Modules = Modules()
    managers: Managers = Managers()
    box: Box = Box()
    alert: Alert | None = None
    analytics: Analytics | None = None
    defaults: Defaults = Defaults()
    virtual_hosts: Annotated[tuple[VirtualHost, ...], Listed("VirtualHost", "VirtualHosts")] = ()
