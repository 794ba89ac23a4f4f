"""Application/Publishers: where its output streams go (catalogue 3.2). A publisher that is absent is off."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.models.common import CrossDomains
from appliance.settings.schema import Deprecated, Listed, Named, Node


class PlayoutDelay(Node, frozen=True, kw_only=True):
    """ms."""

    min: int = 0
    max: int = 0


class WebRTCPublisher(Node, frozen=True, kw_only=True):
    """``timeout`` ms; ``bandwidth_estimation`` is ``REMB`` or "" (off)."""

    max_connection: int = 0
    timeout: int = 30000
    rtx: bool = False
    ulpfec: bool = False
    jitter_buffer: bool = False
    playout_delay: PlayoutDelay | None = None
    create_default_playlist: bool = True
    bandwidth_estimation: str = ""


class DVR(Node, frozen=True, kw_only=True):
    """Rewinding: ``max_duration`` s are kept on disk under ``temp_storage_path``."""

    enable: bool = False
    temp_storage_path: str = "/tmp/ll_hls_dvr"
    max_duration: int = 3600
    event_playlist_type: bool = False


class Dump(Node, frozen=True, kw_only=True):
    """Copies every playlist and segment of ``target_stream_name`` (``*`` allowed) into ``output_path``."""

    id: str = ""
    enable: bool = False
    target_stream_name: str = ""
    output_path: str = ""
    playlists: Annotated[tuple[str, ...], Listed("Playlist", "Playlists", nested=True)] = ()


class CacheControl(Node, frozen=True, kw_only=True):
    """Seconds of ``max-age``; 0 is ``no-cache, no-store``, -1 leaves the header out."""

    master_playlist_max_age: int = 0
    chunklist_max_age: int = 0
    chunklist_with_directives_max_age: int = 60
    segment_max_age: int = -1
    partial_segment_max_age: int = -1


class Query(Node, frozen=True, kw_only=True):
    key: str
    value: str


class DefaultQueryString(Node, frozen=True, kw_only=True):
    queries: Annotated[tuple[Query, ...], Listed("Query", json="queries")] = ()


class DRM(Node, frozen=True, kw_only=True):
    enable: bool = False
    info_file: str = ""


class SegmentedPublisher(Node, frozen=True, kw_only=True):
    """What HLS and LL-HLS share. ``segment_duration`` s; ``segment_count`` segments are listed, at least 3."""

    origin_mode: bool = False
    server_time_based_segment_numbering: bool = False
    segment_count: int = 5
    segment_duration: float = 10.0
    cross_domains: CrossDomains | None = None
    dvr: Annotated[DVR, Named("DVR")] = DVR()
    dumps: Annotated[tuple[Dump, ...], Listed("Dump", "Dumps", nested=True)] = ()
    cache_control: CacheControl = CacheControl()
    default_query_string: DefaultQueryString = DefaultQueryString()
    create_default_playlist: bool = True


class HlsPublisher(SegmentedPublisher, frozen=True, kw_only=True):
    """HLS version 3 with MPEG-TS segments."""


class LLHlsPublisher(SegmentedPublisher, frozen=True, kw_only=True):
    """``chunk_duration`` s is the part target, ``part_hold_back`` s (0 is three parts)."""

    chunk_duration: float = 0.5
    part_hold_back: float = 0.0
    enable_preload_hint: bool = True
    drm: Annotated[DRM, Named("DRM")] = DRM()


class OvtPublisher(Node, frozen=True, kw_only=True):
    max_connection: int = 0


class SrtPublisher(Node, frozen=True, kw_only=True):
    max_connection: int = 0


class StreamMap(Node, frozen=True, kw_only=True):
    """A file of recordings or pushes that start by themselves."""

    enable: bool = False
    path: str = ""


class FileRecord(Node, frozen=True, kw_only=True):
    enable: bool = False
    record_info: Annotated[str, Named("RecordInfo", "recordInfo")] = ""


class Retention(Node, frozen=True, kw_only=True):
    """How long recordings stay; ours. ``max_age`` s, ``max_size`` bytes of the application (0: no limit), ``reserve``
    percent of the volume that stay free (and at least ten minutes of recording; 0: nothing is deleted for room)."""

    max_age: int = 0
    max_size: int = 0
    reserve: int = 5


class FilePublisher(Node, frozen=True, kw_only=True):
    """Recording. Paths may hold the macros of catalogue 6.6; "" is the publisher's own."""

    root_path: str = ""
    file_path: str = ""
    info_path: str = ""
    stream_map: Annotated[StreamMap, Named("StreamMap", "streamMap")] = StreamMap()
    record: Annotated[FileRecord | None, Deprecated("write StreamMap")] = None
    retention: Retention = Retention()


class ThumbnailPublisher(Node, frozen=True, kw_only=True):
    cross_domains: CrossDomains | None = None


class PushPublisher(Node, frozen=True, kw_only=True):
    """Time-outs in ms; -1 is 5000 to connect, 2000 to send."""

    stream_map: Annotated[StreamMap, Named("StreamMap", "streamMap")] = StreamMap()
    connection_timeout: int = -1
    send_timeout: int = -1


class LegacyPush(PushPublisher, frozen=True, kw_only=True):
    """The three push publishers of old, now one: ``Push``."""


class Publishers(Node, frozen=True, kw_only=True):
    """``delay_buffer_time_ms`` delays everything by so many ms; Kiln needs no worker counts."""

    app_worker_count: int = 1
    stream_worker_count: int = 8
    delay_buffer_time_ms: int = 0
    webrtc: Annotated[WebRTCPublisher | None, Named("WebRTC", "webrtc")] = None
    llhls: Annotated[LLHlsPublisher | None, Named("LLHLS", "llhls")] = None
    hls: Annotated[HlsPublisher | None, Named("HLS", "hls")] = None
    ovt: Annotated[OvtPublisher | None, Named("OVT", "ovt")] = None
    file: Annotated[FilePublisher | None, Named("FILE", "file")] = None
    thumbnail: ThumbnailPublisher | None = None
    push: PushPublisher | None = None
    srt: Annotated[SrtPublisher | None, Named("SRT", "srt")] = None
    mpegts_push: Annotated[LegacyPush | None, Named("MPEGTSPush"), Deprecated("write Push")] = None
    rtmp_push: Annotated[LegacyPush | None, Named("RTMPPush", "rtmpPush"), Deprecated("write Push")] = None
    srt_push: Annotated[LegacyPush | None, Named("SRTPush", "srtPush"), Deprecated("write Push")] = None
