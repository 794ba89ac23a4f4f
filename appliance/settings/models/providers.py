"""Application/Providers: where its streams come from (catalogue 3.2). A provider that is absent is off."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.models.common import CrossDomains
from appliance.settings.schema import Deprecated, Listed, Named, Node


class Provider(Node, frozen=True, kw_only=True):
    """``max_connection`` 0 is no limit; ``timestamp_mode`` ``ZeroBased``, ``Original`` or "" (automatic);
    ``packet_silence_timeout_ms`` ends a stream that is silent for so many ms, 0 never."""

    max_connection: int = 0
    timestamp_mode: str = ""
    use_incoming_timestamp: Annotated[bool, Deprecated("write TimestampMode")] = False
    packet_silence_timeout_ms: int = 0


class ID3v2Event(Node, frozen=True, kw_only=True):
    event_type: str = ""
    frame_type: str = ""
    info: str = ""
    data: str = ""


class RtmpEvent(Node, frozen=True, kw_only=True):
    """An AMF message that becomes an ID3 tag; ``trigger`` such as ``AMFDataMessage.onMetaData``."""

    trigger: str
    hls_id3v2: Annotated[ID3v2Event | None, Named("HLSID3v2")] = None


class RtmpEventGenerator(Node, frozen=True, kw_only=True):
    events: Annotated[tuple[RtmpEvent, ...], Listed("Event")] = ()


class RtmpProvider(Provider, frozen=True, kw_only=True):
    """``publish_key`` is Kiln's own: publishers carry ``?key=``; "" lets everybody publish."""

    block_duplicate_stream_name: bool = True
    passthrough_output_profile: bool = False
    event_generator: RtmpEventGenerator | None = None
    publish_key: str = ""


class RtspPullProvider(Provider, frozen=True, kw_only=True):
    block_duplicate_stream_name: bool = True


class HlsPullProvider(Provider, frozen=True, kw_only=True):
    """Kiln's own: streams are pulled from HLS playlists."""


class RtspProvider(Provider, frozen=True, kw_only=True):
    pass


class OvtProvider(Provider, frozen=True, kw_only=True):
    pass


class AudioMapItem(Node, frozen=True, kw_only=True):
    """What the n-th audio track of the input is called."""

    name: str
    language: str = ""
    characteristics: str = ""


class SrtProvider(Provider, frozen=True, kw_only=True):
    """``publish_key`` as for RTMP."""

    block_duplicate_stream_name: bool = True
    audio_map: Annotated[tuple[AudioMapItem, ...], Listed("Item", "AudioMap", nested=True)] = ()
    publish_key: str = ""


class WebRTCProvider(Provider, frozen=True, kw_only=True):
    """``timeout`` ms without an answer ends a session."""

    timeout: int = 30000
    cross_domains: CrossDomains | None = None


class FileStream(Node, frozen=True, kw_only=True):
    """``path`` under RootPath."""

    name: str
    path: str


class FileProvider(Provider, frozen=True, kw_only=True):
    root_path: str = ""
    stream_map: Annotated[tuple[FileStream, ...], Listed("Stream", "StreamMap", nested=True)] = ()
    passthrough_output_profile: bool = False


class ScheduleProvider(Provider, frozen=True, kw_only=True):
    """Folders; a relative one is taken from the folder of the configuration."""

    media_root_dir: str = ""
    schedule_files_dir: str = ""


class MultiplexProvider(Provider, frozen=True, kw_only=True):
    mux_files_dir: str = ""


class MpegtsStream(Node, frozen=True, kw_only=True):
    """``name`` may hold ``${Port}``; ``port`` one of Bind/Providers/MPEGTS. ``group`` is Kiln's own: a multicast group
    to join, on ``interface`` (an address of this box, for IPv6 a name; "" lets the system choose)."""

    name: str = "stream"
    port: str = "4000/udp"
    group: str = ""
    interface: str = ""


class MpegtsProvider(Provider, frozen=True, kw_only=True):
    packet_silence_timeout_ms: int = 1500
    streams: Annotated[tuple[MpegtsStream, ...], Listed("Stream", "StreamMap", json="streams")] = ()
    audio_map: Annotated[tuple[AudioMapItem, ...], Listed("Item", "AudioMap", nested=True)] = ()


class CaptureStream(Node, frozen=True, kw_only=True):
    """One input of the box: ``url`` such as ``pattern://?size=1280x720&fps=30`` or ``v4l2:///dev/video0``."""

    name: str
    url: str


class Capture(Node, frozen=True, kw_only=True):
    """Kiln's own: the inputs of this box, each a stream that is always there."""

    streams: Annotated[tuple[CaptureStream, ...], Listed("Stream", "Streams")] = ()


class Providers(Node, frozen=True, kw_only=True):
    rtmp: Annotated[RtmpProvider | None, Named("RTMP", "rtmp")] = None
    rtsp_pull: Annotated[RtspPullProvider | None, Named("RTSPPull", "rtspPull")] = None
    hls_pull: Annotated[HlsPullProvider | None, Named("HLSPull", "hlsPull")] = None
    rtsp: Annotated[RtspProvider | None, Named("RTSP", "rtsp")] = None
    ovt: Annotated[OvtProvider | None, Named("OVT", "ovt")] = None
    srt: Annotated[SrtProvider | None, Named("SRT", "srt")] = None
    webrtc: Annotated[WebRTCProvider | None, Named("WebRTC", "webrtc")] = None
    file: Annotated[FileProvider | None, Named("FILE", "file")] = None
    schedule: ScheduleProvider | None = None
    multiplex: MultiplexProvider | None = None
    mpegts: Annotated[MpegtsProvider | None, Named("MPEGTS", "mpegts")] = None
    capture: Capture | None = None
