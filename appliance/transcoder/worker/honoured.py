"""Which settings of an encode an encoder has no use for: nothing that was asked for is dropped without a word."""

from __future__ import annotations

from appliance.media.track import Codec
from appliance.transcoder.spec import RenditionSpec

_ALL = frozenset({"Preset", "Profile", "BFrames", "Lookahead"})
_PRESET = frozenset({"Preset"})
_NONE: frozenset[str] = frozenset()
_HONOURED = {
    "libx264": _ALL,
    "libx265": _ALL - {"Profile"},
    "libvpx": frozenset({"Preset", "Lookahead"}),
    "libvpx-vp9": frozenset({"Preset", "Lookahead"}),
    "libsvtav1": _PRESET,
    "h264_nvenc": _ALL,
    "hevc_nvenc": frozenset({"Preset", "Lookahead"}),
    "av1_nvenc": frozenset({"Preset", "Lookahead"}),
    "h264_qsv": frozenset({"Preset", "Profile"}),
    "hevc_qsv": _PRESET,
    "av1_qsv": _PRESET,
    "vp9_qsv": _PRESET,
    "h264_amf": frozenset({"Preset", "Profile"}),
    "hevc_amf": _PRESET,
    "av1_amf": _PRESET,
}


def no_effect(encoder: str, spec: RenditionSpec) -> str:
    """What to say of the settings that ``encoder`` does not follow; "" when it follows all that are given."""
    if spec.kind != "video":
        return ""
    honoured = _HONOURED.get(encoder.partition(":")[0], _NONE)
    lost = [name for name in _asked(spec) if name not in honoured]
    if spec.b_frames > 0 and spec.codec is Codec.H264 and spec.profile == "baseline" and "BFrames" in honoured:
        lost.append("BFrames (the profile baseline has none)")
    return f"no effect with {encoder}: {', '.join(lost)}" if lost else ""


def _asked(spec: RenditionSpec) -> list[str]:
    # Outside H.264 the 8-bit pictures that we make are of the main profile, whoever encodes them.
    profile = spec.profile if spec.codec is Codec.H264 or spec.profile != "main" else ""
    given = {"Preset": spec.preset, "Profile": profile, "BFrames": spec.b_frames > 0, "Lookahead": spec.lookahead > 0}
    return [name for name, value in given.items() if value]
