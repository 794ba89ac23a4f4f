"""VirtualHost and Application (catalogue 3.1, 3.2, 5.5, 5.6)."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.models.common import CrossDomains, Enables, Host
from appliance.settings.models.profiles import OutputProfile, OutputProfiles
from appliance.settings.models.providers import Providers
from appliance.settings.models.publishers import Publishers
from appliance.settings.schema import Deprecated, Listed, Named, Node, Opaque


class SignedPolicy(Node, frozen=True, kw_only=True):
    policy_query_key_name: str = ""
    signature_query_key_name: str = ""
    secret_key: str = ""
    enables: Enables = Enables()


class AdmissionWebhooks(Node, frozen=True, kw_only=True):
    """``timeout`` ms."""

    control_server_url: str = ""
    secret_key: str = ""
    timeout: int = 3000
    enables: Enables = Enables()


class OriginProperties(Node, frozen=True, kw_only=True):
    """Time-outs in ms; ``unused_stream_deletion_timeout`` 0 is never."""

    no_input_failover_timeout: int = 3000
    unused_stream_deletion_timeout: int = 60000
    stream_failback_timeout: int = 3000
    retry_count: int = 1


class OriginPass(Node, frozen=True, kw_only=True):
    """``urls`` without their scheme, tried in order."""

    scheme: str
    urls: Annotated[tuple[str, ...], Listed("Url", "Urls", nested=True)]
    forward_query_params: bool = True


class Origin(Node, frozen=True, kw_only=True):
    """Where a stream under ``location`` (``/app/stream`` or ``/app/``) is pulled from.

    ``relay`` None is true for OVT and false for all else.
    """

    location: str
    pass_: Annotated[OriginPass, Named("Pass")]
    persistent: bool = False
    failback: bool = False
    strict_location: bool = False
    relay: bool | None = None
    ignore_rtcp_sr_timestamp: Annotated[bool, Named("IgnoreRtcpSRTimestamp")] = False


class Origins(Node, frozen=True, kw_only=True):
    properties: OriginProperties = OriginProperties()
    origins: Annotated[tuple[Origin, ...], Listed("Origin")] = ()


class RedisServer(Node, frozen=True, kw_only=True):
    """``host`` is ``address:port``."""

    host: str = ""
    auth: str = ""


class OriginMapStore(Node, frozen=True, kw_only=True):
    redis_server: RedisServer = RedisServer()
    origin_host_name: str = ""


class TranscodeWebhook(Node, frozen=True, kw_only=True):
    """``timeout`` ms."""

    enable: bool = False
    control_server_url: str = ""
    secret_key: str = ""
    timeout: int = 1500
    use_local_profiles_on_connection_failure: bool = True
    use_local_profiles_on_server_disallow: bool = False
    use_local_profiles_on_error_response: bool = False


class EventGenerator(Node, frozen=True, kw_only=True):
    enable: bool = False
    path: str = ""


class DecodeVideo(Node, frozen=True, kw_only=True):
    hardware_acceleration: bool = False


class ApplicationDecodes(Node, frozen=True, kw_only=True):
    video: DecodeVideo = DecodeVideo()
    h264_has_bframes: Annotated[int, Named("H264hasBframes")] = 16


class Application(Node, frozen=True, kw_only=True):
    """One application: its streams are ``vhost/name/stream``. ``type`` is ``live``.

    ``on_input_loss``: ``end`` ends a stream with its source, ``hold`` keeps it with a slate; "" holds captures
    and channels and ends all else. ``stall_ms``: how long a source may be quiet before it counts as lost.
    ``hold_ms``: how long the stream is kept, 0 is for ever.
    """

    name: str
    type: str
    on_input_loss: str = ""
    stall_ms: int = 2000
    hold_ms: int = 0
    output_profiles: OutputProfiles = OutputProfiles()
    providers: Providers = Providers()
    publishers: Publishers = Publishers()
    transcode_webhook: TranscodeWebhook | None = None
    event_generator: EventGenerator = EventGenerator()
    decodes: Annotated[ApplicationDecodes | None, Deprecated("write OutputProfiles/Decodes")] = None
    persistent_streams: Annotated[Opaque, Deprecated("write Origins with Persistent")] = None

    @property
    def profiles(self) -> tuple[OutputProfile, ...]:
        return self.output_profiles.profiles


class VirtualHost(Node, frozen=True, kw_only=True):
    name: str
    distribution: str = "ovenmediaengine.com"
    host: Host = Host()
    signed_policy: SignedPolicy | None = None
    admission_webhooks: AdmissionWebhooks | None = None
    origins: Origins = Origins()
    origin_map_store: OriginMapStore | None = None
    cross_domains: Annotated[CrossDomains | None, Deprecated("write CrossDomains with the publishers")] = None
    applications: Annotated[tuple[Application, ...], Listed("Application", "Applications")] = ()
