"""Application/OutputProfiles: what is made of every input stream (catalogue 3.2, 3.3; wire catalogue 8)."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.schema import Bitrate, Deprecated, Listed, Named, Node


class AudioBypassIfMatch(Node, frozen=True, kw_only=True):
    """When the input already is what is wanted, it isn't encoded again. Each condition "" is not asked."""

    codec: str = ""
    bitrate: str = ""
    samplerate: str = ""
    channel: str = ""


class VideoBypassIfMatch(Node, frozen=True, kw_only=True):
    """As for audio; ``eq``, ``lte`` and ``gte`` compare the input's value with the wanted one."""

    codec: str = ""
    bitrate: str = ""
    framerate: str = ""
    width: str = ""
    height: str = ""
    sar: Annotated[str, Named("SAR")] = ""


class AudioEncode(Node, frozen=True, kw_only=True):
    """``bitrate`` bit/s, ``samplerate`` Hz (0 as the input), ``channel`` count (1 is mono, all else stereo)."""

    name: str = ""
    bypass: bool = False
    codec: str = ""
    modules: str = ""
    bitrate: Bitrate = 0
    samplerate: int = 0
    channel: int = 0
    bypass_if_match: AudioBypassIfMatch | None = None


class VideoEncode(Node, frozen=True, kw_only=True):
    """``bitrate`` bit/s, ``width`` and ``height`` px (0 keeps, one 0 keeps the aspect), ``framerate`` fps (0 keeps).

    ``key_frame_interval`` counts frames (0 is one second), or ms where ``key_frame_interval_type`` is ``time``;
    ``skip_frames`` -1 is off; ``thread_count`` -1 is automatic; ``lookahead`` frames, -1 is off.
    """

    name: str = ""
    bypass: bool = False
    codec: str = ""
    modules: str = ""
    bitrate: Bitrate = 0
    width: int = 0
    height: int = 0
    framerate: float = 0.0
    skip_frames: int = -1
    preset: str = ""
    thread_count: int = -1
    key_frame_interval_type: str = "frame"
    key_frame_interval: int = 0
    b_frames: int = 0
    bypass_if_match: VideoBypassIfMatch | None = None
    profile: str = ""
    lookahead: int = -1


class ImageEncode(Node, frozen=True, kw_only=True):
    """Still pictures of the video. ``framerate`` fps, 0 is every frame."""

    name: str = ""
    codec: str = ""
    modules: str = ""
    width: int = 0
    height: int = 0
    framerate: float = 0.0
    skip_frames: int = 0
    bypass_if_match: VideoBypassIfMatch | None = None


class Encodes(Node, frozen=True, kw_only=True):
    audios: Annotated[tuple[AudioEncode, ...], Listed("Audio", json="audios")] = ()
    videos: Annotated[tuple[VideoEncode, ...], Listed("Video", json="videos")] = ()
    images: Annotated[tuple[ImageEncode, ...], Listed("Image", json="images")] = ()


class PlaylistOptions(Node, frozen=True, kw_only=True):
    """``hls_chunklist_path_depth``: -1 absolute path, 0 file, 1 ``../stream/…``, 2 ``../../app/stream/…``."""

    webrtc_auto_abr: Annotated[bool, Named("WebRtcAutoAbr")] = True
    hls_chunklist_path_depth: Annotated[int, Named("HLSChunklistPathDepth")] = -1
    enable_ts_packaging: bool = False
    enable_subtitles: bool = True


class Rendition(Node, frozen=True, kw_only=True):
    """``video`` and ``audio`` name encodes; an index hint picks among the tracks of that name, -1 is the first."""

    name: str
    video: str = ""
    audio: str = ""
    video_index_hint: Annotated[int, Named("VideoIndexHint", "video_index_hint")] = -1
    audio_index_hint: Annotated[int, Named("AudioIndexHint", "audio_index_hint")] = -1


class VideoTemplate(Node, frozen=True, kw_only=True):
    """Which video tracks take part. Sizes px, frame rates fps, bitrates bit/s; 0 is no limit."""

    variant_name: Annotated[str, Named("VariantName", "variant_name")] = ""
    encoding_type: Annotated[str, Named("EncodingType", "encoding_type")] = "all"
    max_width: Annotated[int, Named("MaxWidth", "max_width")] = 0
    min_width: Annotated[int, Named("MinWidth", "min_width")] = 0
    max_height: Annotated[int, Named("MaxHeight", "max_height")] = 0
    min_height: Annotated[int, Named("MinHeight", "min_height")] = 0
    max_framerate: Annotated[int, Named("MaxFramerate", "max_framerate")] = 0
    min_framerate: Annotated[int, Named("MinFramerate", "min_framerate")] = 0
    max_bitrate: Annotated[Bitrate, Named("MaxBitrate", "max_bitrate")] = 0
    min_bitrate: Annotated[Bitrate, Named("MinBitrate", "min_bitrate")] = 0


class AudioTemplate(Node, frozen=True, kw_only=True):
    """Which audio tracks take part. Bitrates bit/s, samplerates Hz; 0 is no limit."""

    variant_name: Annotated[str, Named("VariantName", "variant_name")] = ""
    encoding_type: Annotated[str, Named("EncodingType", "encoding_type")] = "all"
    max_bitrate: Annotated[Bitrate, Named("MaxBitrate", "max_bitrate")] = 0
    min_bitrate: Annotated[Bitrate, Named("MinBitrate", "min_bitrate")] = 0
    max_samplerate: Annotated[int, Named("MaxSamplerate", "max_samplerate")] = 0
    min_samplerate: Annotated[int, Named("MinSamplerate", "min_samplerate")] = 0
    max_channel: Annotated[int, Named("MaxChannel", "max_channel")] = 0
    min_channel: Annotated[int, Named("MinChannel", "min_channel")] = 0


class RenditionTemplate(Node, frozen=True, kw_only=True):
    """A rendition for every pair of tracks that match; ``name`` may hold ``${Height}`` and the like."""

    name: str
    video_template: Annotated[VideoTemplate | None, Named("VideoTemplate", "video_template")] = None
    audio_template: Annotated[AudioTemplate | None, Named("AudioTemplate", "audio_template")] = None


class Playlist(Node, frozen=True, kw_only=True):
    """One master playlist; ``file_name`` without its extension."""

    name: str = ""
    file_name: str
    options: PlaylistOptions = PlaylistOptions()
    renditions: Annotated[tuple[Rendition, ...], Listed("Rendition", json="renditions")] = ()
    rendition_templates: Annotated[
        tuple[RenditionTemplate, ...], Listed("RenditionTemplate", json="rendition_templates")
    ] = ()


class OutputProfile(Node, frozen=True, kw_only=True):
    """One output stream of every input; in ``output_stream_name`` ``${OriginStreamName}`` is the input's name."""

    name: str
    output_stream_name: str
    encodes: Encodes = Encodes()
    playlists: Annotated[tuple[Playlist, ...], Listed("Playlist", json="playlists")] = ()


class HwAccel(Node, frozen=True, kw_only=True):
    """``modules`` in order of preference, such as ``nv:0,qsv``."""

    enable: bool = False
    modules: str = ""


class HwAccels(Node, frozen=True, kw_only=True):
    decoder: HwAccel = HwAccel()
    encoder: HwAccel = HwAccel()


class Decodes(Node, frozen=True, kw_only=True):
    thread_count: int = 2
    only_keyframes: bool = False


class Transcription(Node, frozen=True, kw_only=True):
    """Speech to text. ``audio_index_hint`` picks the audio track."""

    engine: str = ""
    model: str = ""
    audio_index_hint: int = 0
    source_language: str = "auto"
    translation: bool = False


class SubtitleRendition(Node, frozen=True, kw_only=True):
    """``language`` as in RFC 5646."""

    label: str
    language: str
    auto_select: bool = False
    forced: bool = False
    transcription: Transcription | None = None


class Subtitles(Node, frozen=True, kw_only=True):
    enable: bool = False
    default_label: str = ""
    renditions: Annotated[tuple[SubtitleRendition, ...], Listed("Rendition")] = ()


class Overlays(Node, frozen=True, kw_only=True):
    enable: bool = False
    path: str = ""


class MediaOptions(Node, frozen=True, kw_only=True):
    subtitles: Subtitles = Subtitles()
    overlays: Overlays = Overlays()


class OutputProfiles(Node, frozen=True, kw_only=True):
    hwaccels: Annotated[HwAccels, Named("HWAccels", "hwaccels")] = HwAccels()
    hardware_acceleration: Annotated[bool, Deprecated("write HWAccels")] = False
    decodes: Decodes = Decodes()
    media_options: MediaOptions = MediaOptions()
    profiles: Annotated[tuple[OutputProfile, ...], Listed("OutputProfile")] = ()
