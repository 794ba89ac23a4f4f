"""Raw sources as URLs: ``pattern://``, ``v4l2://``, ``alsa://``. Parsing and checking only; no device is touched.

``pattern://?size=1280x720&fps=30``        moving test pattern with clock, and a tone
``v4l2:///dev/video0?size=1920x1080&fps=30&audio=hw:1,0``   a V4L2 device, with an ALSA device beside it
``alsa://hw:1,0?samplerate=48000&channels=2``               sound alone
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from appliance.errors import ConfigError
from appliance.media.track import Codec, MediaType, Track
from appliance.transcoder.encoders import candidates, split_codec
from appliance.transcoder.spec import AAC_SAMPLE_RATES, RenditionSpec, frame_rate_fraction

Scheme = Literal["pattern", "v4l2", "alsa"]
VIDEO_TRACK = 0
AUDIO_TRACK = 1

#: Bits a pixel and frame of the input's own H.264 encode: 720p30 comes to 2.5 Mbit/s.
_BITS_A_PIXEL = 2_500_000 / (1280 * 720 * 30)


class RawSource(msgspec.Struct, frozen=True, kw_only=True):
    """A raw source and the settings of its own encode, which is what a bypass profile shows.

    ``device``: path or name of the video device ("" for the pattern), ``audio_device`` the ALSA name. No video:
    ``width`` is 0; no audio: ``sample_rate`` is 0. ``fps`` frames a second. ``tone``: Hz of the pattern's tone, 0 is
    silence. ``input_format``: what the V4L2 device is asked for (``mjpeg``, ``yuyv422`` …; "" lets it choose).
    """

    scheme: Scheme
    url: str
    device: str = ""
    audio_device: str = ""
    input_format: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    sample_rate: int = 0
    channels: int = 2
    tone: int = 1000
    codec: Codec = Codec.H264
    vbitrate: int = 0
    abitrate: int = 128_000
    acodec: Codec = Codec.AAC
    gop: int = 0
    preset: str = "veryfast"
    profile: str = "high"
    encoders: tuple[str, ...] = ()

    @property
    def frame_rate(self) -> Fraction:
        return frame_rate_fraction(self.fps)

    def tracks(self) -> tuple[Track, ...]:
        """The input's tracks, codec RAW: video is track 0, audio track 1."""
        tracks = []
        if self.width:
            tracks.append(
                Track(id=VIDEO_TRACK, media=MediaType.VIDEO, codec=Codec.RAW, timescale=90000, width=self.width,
                      height=self.height, frame_rate=float(self.frame_rate), variant="Video")
            )  # fmt: skip
        if self.sample_rate:
            tracks.append(
                Track(id=AUDIO_TRACK, media=MediaType.AUDIO, codec=Codec.RAW, timescale=self.sample_rate,
                      sample_rate=self.sample_rate, channels=self.channels, variant="Audio")
            )  # fmt: skip
        return tuple(tracks)

    def own_encode(self, track: Track, *, output_id: int, variant: str) -> RenditionSpec:
        """What bypass of ``track`` means: one of `tracks`, encoded with this source's own settings."""
        if track.is_audio:
            return RenditionSpec(id=output_id, input_id=track.id, kind="audio", codec=self.acodec, variant=variant,
                                 bitrate=self.abitrate, channels=self.channels)  # fmt: skip
        return RenditionSpec(
            id=output_id, input_id=track.id, kind="video", codec=self.codec, variant=variant, preset=self.preset,
            bitrate=self.vbitrate, profile=self.profile if self.codec is Codec.H264 else "",
            key_frame_interval=self.gop, encoders=self.encoders,
        )  # fmt: skip


def parse(url: str) -> RawSource:
    """Read a raw source's URL. Raises ConfigError with the reason; unknown parameters are errors."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"not a capture URL: {url!r}: {error}") from None
    reader = _READERS.get(parts.scheme.lower())
    if reader is None:
        raise ConfigError(f"not a capture URL: {url!r}", hint="pattern://, v4l2:// or alsa://")
    if parts.fragment:
        raise ConfigError(f"{url!r}: a '#' part has no meaning here")
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=50)
    except ValueError:
        raise ConfigError(f"{url!r}: parameters must be name=value, joined by '&'") from None
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise ConfigError(f"{url!r}: parameter {name!r} stands twice")
        given[name] = value
    return reader(url, unquote(parts.netloc + parts.path), _Parameters(url, given))


class _Parameters:
    def __init__(self, url: str, given: Mapping[str, str]) -> None:
        self.url = url
        self._given = dict(given)

    def fault(self, name: str, value: str, wanted: str) -> ConfigError:
        return ConfigError(f"{self.url!r}: parameter {name}={value}: must be {wanted}")

    def text(self, name: str, default: str, pattern: str = r"[\x21-\x7e]+") -> str:
        value = self._given.pop(name, default)
        if value and not re.fullmatch(pattern, value):
            raise self.fault(name, value, f"of the form {pattern}")
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        value = self._given.pop(name, default)
        if value not in choices:
            raise self.fault(name, value, f"one of {', '.join(choices)}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self._given.pop(name, None)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,10}", text) or not low <= int(text) <= high:
            raise self.fault(name, text, f"an integer from {low} to {high}")
        return int(text)

    def bitrate(self, name: str, default: int, low: int, high: int) -> int:
        """A number, or one with suffix K (x1024) or M (x1048576)."""
        text = self._given.pop(name, None)
        if text is None:
            return default
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kKmM]?)", text)
        value = int(float(match[1]) * {"": 1, "k": 1024, "m": 1048576}[match[2].lower()]) if match else 0
        if not low <= value <= high:
            raise self.fault(name, text, f"bit/s from {low} to {high}, K and M allowed")
        return value

    def rate(self, name: str, default: float) -> float:
        text = self._given.pop(name, None)
        if text is None:
            return default
        match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,4}))?", text)
        value = float(match[1]) / float(match[2] or 1) if match and (match[2] is None or int(match[2])) else 0.0
        if not 1 <= value <= 240:
            raise self.fault(name, text, "frames a second from 1 to 240, also as a fraction (30000/1001)")
        return value

    def size(self, name: str, default: str) -> tuple[int, int]:
        text = self._given.pop(name, default)
        match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
        wide, high = (int(match[1]), int(match[2])) if match else (0, 0)
        if not (16 <= wide <= 7680 and 16 <= high <= 4320 and wide % 2 == 0 and high % 2 == 0):
            raise self.fault(name, text, "WIDTHxHEIGHT, both even, from 16x16 to 7680x4320")
        return wide, high

    def finish(self) -> None:
        if self._given:
            raise ConfigError(f"{self.url!r}: unknown parameter {', '.join(sorted(self._given))}")


_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_VIDEO_CODECS = (Codec.H264, Codec.H265, Codec.VP8, Codec.VP9, Codec.AV1)
_MODULES_HINT = "h264, h265, vp8, vp9 or av1, with a module as suffix (h264_nv)"


def _video_settings(parameters: _Parameters, width: int, height: int, fps: float) -> dict[str, object]:
    text = parameters.text("codec", "h264")
    codec, module = split_codec(text)
    if codec not in _VIDEO_CODECS:
        raise parameters.fault("codec", text, _MODULES_HINT)
    default_bitrate = max(200_000, round(width * height * fps * _BITS_A_PIXEL / 50_000) * 50_000)
    return {
        "width": width,
        "height": height,
        "fps": fps,
        "codec": codec,
        "encoders": candidates(codec, (module,)) if module else (),
        "vbitrate": parameters.bitrate("vbitrate", default_bitrate, 32_000, 400_000_000),
        "gop": parameters.integer("gop", 0, 1, 600),
        "preset": parameters.choice("preset", "veryfast", _PRESETS),
        "profile": parameters.choice("profile", "high", ("baseline", "main", "high")),
    }


def _audio_settings(parameters: _Parameters) -> dict[str, object]:
    text = parameters.choice("acodec", "aac", ("aac", "opus"))
    rate = parameters.integer("samplerate", 48000, 8000, 96000)
    if rate not in AAC_SAMPLE_RATES:
        raise parameters.fault("samplerate", str(rate), f"one of {', '.join(map(str, sorted(AAC_SAMPLE_RATES)))}")
    return {
        "sample_rate": rate,
        "channels": parameters.integer("channels", 2, 1, 2),
        "abitrate": parameters.bitrate("abitrate", 128_000, 8_000, 512_000),
        "acodec": Codec.OPUS if text == "opus" else Codec.AAC,
    }


def _no_audio(parameters: _Parameters) -> dict[str, object]:
    return {"sample_rate": 0}


def _pattern(url: str, rest: str, parameters: _Parameters) -> RawSource:
    if rest.strip("/"):
        raise ConfigError(f"{url!r}: a pattern has parameters and no path: pattern://?size=1280x720&fps=30")
    width, height = parameters.size("size", "1280x720")
    video = _video_settings(parameters, width, height, parameters.rate("fps", 30.0))
    tone = parameters.integer("frequency", 1000, 0, 4000)
    sound = parameters.choice("audio", "on", ("on", "off")) == "on"
    audio = _audio_settings(parameters) if sound else _no_audio(parameters)
    parameters.finish()
    return msgspec.convert({"scheme": "pattern", "url": url, "tone": tone, **video, **audio}, RawSource)


def _v4l2(url: str, rest: str, parameters: _Parameters) -> RawSource:
    if not re.fullmatch(r"/dev/[A-Za-z0-9_./:+-]{1,200}", rest) or ".." in rest:
        raise ConfigError(f"{url!r}: needs a device below /dev: v4l2:///dev/video0?size=1280x720&fps=30")
    width, height = parameters.size("size", "1280x720")
    video = _video_settings(parameters, width, height, parameters.rate("fps", 30.0))
    audio_device = parameters.text("audio", "", _ALSA_NAME)
    audio = _audio_settings(parameters) if audio_device else _no_audio(parameters)
    input_format = parameters.text("format", "", r"[a-z0-9_]{1,32}")
    parameters.finish()
    named = {"scheme": "v4l2", "url": url, "device": rest, "audio_device": audio_device, "input_format": input_format}
    return msgspec.convert({**named, **video, **audio}, RawSource)


_ALSA_NAME = r"[A-Za-z0-9_:,.=-]{1,100}"


def _alsa(url: str, rest: str, parameters: _Parameters) -> RawSource:
    name = rest.strip("/")
    if not re.fullmatch(_ALSA_NAME, name):
        raise ConfigError(f"{url!r}: needs the name of an ALSA device: alsa://hw:1,0?samplerate=48000&channels=2")
    audio = _audio_settings(parameters)
    parameters.finish()
    return msgspec.convert({"scheme": "alsa", "url": url, "audio_device": name, **audio}, RawSource)


_READERS: dict[str, Callable[[str, str, _Parameters], RawSource]] = {
    "pattern": _pattern,
    "v4l2": _v4l2,
    "alsa": _alsa,
}
