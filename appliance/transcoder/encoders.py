"""Which encoder makes which codec: names of Server.xml to FFmpeg's. No FFmpeg here, so the engine may ask too."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from appliance.errors import ConfigError
from appliance.media.track import Codec

#: Module names of an Encode item (wire catalogue 8.3) to FFmpeg's encoder, a codec each.
_MODULES: dict[str, dict[Codec, str]] = {
    "x264": {Codec.H264: "libx264"},
    "x265": {Codec.H265: "libx265"},
    "libvpx": {Codec.VP8: "libvpx", Codec.VP9: "libvpx-vp9"},
    "svtav1": {Codec.AV1: "libsvtav1"},
    "nv": {Codec.H264: "h264_nvenc", Codec.H265: "hevc_nvenc", Codec.AV1: "av1_nvenc"},
    "qsv": {Codec.H264: "h264_qsv", Codec.H265: "hevc_qsv", Codec.AV1: "av1_qsv", Codec.VP9: "vp9_qsv"},
    "amf": {Codec.H264: "h264_amf", Codec.H265: "hevc_amf", Codec.AV1: "av1_amf"},
    "v4l2m2m": {Codec.H264: "h264_v4l2m2m", Codec.H265: "hevc_v4l2m2m", Codec.VP8: "vp8_v4l2m2m"},
    "vaapi": {Codec.H264: "h264_vaapi", Codec.H265: "hevc_vaapi", Codec.VP8: "vp8_vaapi", Codec.VP9: "vp9_vaapi"},
    "rkmpp": {Codec.H264: "h264_rkmpp", Codec.H265: "hevc_rkmpp"},
    "fdkaac": {Codec.AAC: "aac"},
    "libopus": {Codec.OPUS: "libopus"},
    # x264 stands in: its H.264 is what every player of OpenH264's plays.
    "openh264": {Codec.H264: "libx264"},
}

SOFTWARE: dict[Codec, str] = {
    Codec.H264: "libx264",
    Codec.H265: "libx265",
    Codec.VP8: "libvpx",
    Codec.VP9: "libvpx-vp9",
    Codec.AV1: "libsvtav1",
    Codec.AAC: "aac",
    Codec.OPUS: "libopus",
    Codec.JPEG: "mjpeg",
    Codec.PNG: "png",
    Codec.WEBP: "libwebp",
}

#: Hardware that Kiln knows, best first, for the probe and for `default` order.
HARDWARE_MODULES = ("nv", "qsv", "amf", "vaapi", "rkmpp", "v4l2m2m")
HARDWARE: frozenset[str] = frozenset(name for module in HARDWARE_MODULES for name in _MODULES[module].values())


def is_hardware(encoder: str) -> bool:
    return encoder.partition(":")[0] in HARDWARE


def split_codec(text: str) -> tuple[Codec, str]:
    """``h264_nv`` as the codec and the module its suffix picks ("" for none). Raises ConfigError."""
    name, _, module = text.strip().lower().partition("_")
    codec = _CODEC_NAMES.get(name)
    if codec is None:
        raise ConfigError(f"unknown codec: {text!r}", hint=f"one of {', '.join(sorted(_CODEC_NAMES))}")
    if module and module not in _MODULES and module != "default":
        raise ConfigError(f"codec {text!r}: unknown encoder module {module!r}")
    return codec, module


_CODEC_NAMES = {
    "h264": Codec.H264, "h265": Codec.H265, "hevc": Codec.H265, "vp8": Codec.VP8, "vp9": Codec.VP9, "av1": Codec.AV1,
    "aac": Codec.AAC, "opus": Codec.OPUS, "jpeg": Codec.JPEG, "jpg": Codec.JPEG, "png": Codec.PNG, "webp": Codec.WEBP,
}  # fmt: skip


def candidates(codec: Codec, modules: Sequence[str] = (), working: Collection[str] | None = None) -> tuple[str, ...]:
    """FFmpeg encoders to try for ``codec``, in order; ``h264_nvenc:1`` where a device is chosen.

    ``modules``: what the encode asks for (``name`` or ``name:device``); () is software. With a list, only the listed
    ones; ``default`` is software. ``working``: the hardware encoders that the probe saw encode; None leaves it to the
    worker to find out. Raises ConfigError when nothing is left.
    """
    names: list[str] = []
    for module in modules or ("default",):
        name, _, device = module.strip().lower().partition(":")
        encoder = SOFTWARE.get(codec) if name == "default" else _MODULES.get(name, {}).get(codec)
        if encoder is None or (is_hardware(encoder) and working is not None and encoder not in working):
            continue
        if device and (name != "nv" or not device.isdecimal()):
            raise ConfigError(f"module {module!r}: only nv takes a device, by its number")
        wanted = f"{encoder}:{device}" if device else encoder
        if wanted not in names:
            names.append(wanted)
    if not names:
        asked = ", ".join(modules) or "default"
        raise ConfigError(f"no encoder for {codec} among the modules: {asked}", hint="add `default` for software")
    return tuple(names)
