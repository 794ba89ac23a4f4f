"""What one transcoder makes for all output streams of an input: equal encodes are made once and shared."""

from __future__ import annotations

import logging
from itertools import count

import msgspec

from appliance.engine.outputs import Output
from appliance.engine.profiles import PlannedTrack
from appliance.errors import ConfigError
from appliance.media.packet import Packet
from appliance.media.track import Codec, Track
from appliance.settings import models
from appliance.transcoder import sources
from appliance.transcoder.encoders import HARDWARE_MODULES, candidates, split_codec
from appliance.transcoder.spec import RenditionSpec

log = logging.getLogger("kiln.output")


class RenditionTable:
    """``specs`` are the encodes to make. As the transcoder's sink it hands each result to the outputs that want it."""

    def __init__(self, source_url: str | None, hwaccel: models.HwAccel) -> None:
        self.faults = 0
        self.last_fault = ""
        self._hwaccel = hwaccel
        self._raw = sources.parse(source_url) if source_url is not None else None
        self._consumers: dict[int, list[tuple[Output, PlannedTrack]]] = {}
        self._specs: dict[int, RenditionSpec] = {}
        self._known: dict[RenditionSpec, int] = {}
        #: What the transcoder has announced, for outputs that come later.
        self._tracks: dict[int, Track] = {}
        self._numbers = count()

    @property
    def specs(self) -> list[RenditionSpec]:
        return list(self._specs.values())

    def add(self, output: Output) -> None:
        """Take up what ``output`` wants encoded. Raises ConfigError when one of its encodes can't be made."""
        wanted = [(planned, self._spec(planned)) for planned in output.plan.tracks if not planned.bypass]
        for planned, spec in wanted:
            anonymous = msgspec.structs.replace(spec.names_aside(), id=0)
            number = self._known.get(anonymous)
            if number is None:
                number = self._known[anonymous] = next(self._numbers)
                self._specs[number] = msgspec.structs.replace(spec, id=number)
            self._consumers.setdefault(number, []).append((output, planned))

    def remove(self, output: Output) -> None:
        """Forget what ``output`` wanted; encodes that nobody wants any more are no longer in ``specs``."""
        for number, consumers in list(self._consumers.items()):
            kept = [each for each in consumers if each[0] is not output]
            if kept:
                self._consumers[number] = kept
                continue
            del self._consumers[number], self._specs[number]
            self._tracks.pop(number, None)
            self._known = {spec: known for spec, known in self._known.items() if known != number}

    def catch_up(self, output: Output) -> None:
        """Tell ``output`` of the tracks that were announced before it came."""
        for number, track in self._tracks.items():
            for consumer, planned in self._consumers[number]:
                if consumer is output:
                    output.encoded_track(planned, track)

    def track(self, track: Track) -> None:
        if track.id not in self._consumers:
            return  # announced while it was given up
        self._tracks[track.id] = track
        for output, planned in self._consumers[track.id]:
            output.encoded_track(planned, track)

    def packet(self, packet: Packet) -> None:
        for output, planned in self._consumers.get(packet.track.id, ()):
            output.encoded_packet(planned, packet)

    def fault(self, text: str) -> None:
        self.faults += 1
        self.last_fault = text

    def _spec(self, planned: PlannedTrack) -> RenditionSpec:
        encode = planned.encode
        if encode is None:
            assert self._raw is not None, "only a raw source has an encode of its own"
            return self._raw.own_encode(planned.source, output_id=0, variant=planned.variant)
        return encode_spec(planned.source.id, planned.variant, encode, self._hwaccel)


def encode_spec(
    input_id: int,
    variant: str,
    encode: models.VideoEncode | models.AudioEncode | models.ImageEncode,
    hwaccel: models.HwAccel,
) -> RenditionSpec:
    """The encode item of an output profile as the transcoder takes it. Raises ConfigError for an unknown codec."""
    codec, module = split_codec(encode.codec)
    modules = _split(encode.modules)
    if module and module not in modules:
        modules = (module, *modules)
    if isinstance(encode, models.VideoEncode):
        modules = allowed_modules(modules, hwaccel)
    modules = _with_an_encoder(codec, modules, variant)
    if isinstance(encode, models.AudioEncode):
        return RenditionSpec(
            id=0, input_id=input_id, kind="audio", codec=codec, variant=variant, bitrate=encode.bitrate,
            sample_rate=encode.samplerate, channels=encode.channel, modules=modules,
        )  # fmt: skip
    if isinstance(encode, models.ImageEncode):
        return RenditionSpec(
            id=0, input_id=input_id, kind="image", codec=codec, variant=variant, width=encode.width,
            height=encode.height, framerate=encode.framerate, skip_frames=encode.skip_frames or -1, modules=modules,
        )  # fmt: skip
    return RenditionSpec(
        id=0, input_id=input_id, kind="video", codec=codec, variant=variant, bitrate=encode.bitrate,
        width=encode.width, height=encode.height, framerate=encode.framerate,
        key_frame_interval=encode.key_frame_interval,
        key_frame_interval_type="time" if encode.key_frame_interval_type.lower() == "time" else "frame",
        preset=encode.preset.lower(), profile=encode.profile.lower(), b_frames=encode.b_frames,
        skip_frames=encode.skip_frames, thread_count=encode.thread_count, lookahead=encode.lookahead, modules=modules,
    )  # fmt: skip


def allowed_modules(asked: tuple[str, ...], hwaccel: models.HwAccel) -> tuple[str, ...]:
    """Encoder modules to try in order, for a video encode that asks for ``asked`` (wire catalogue 8.3).

    Hardware only with HWAccels/Encoder/Enable: its Modules then, or all that Kiln knows. Software comes last always:
    a box without the hardware that its configuration names goes on the air all the same.
    """
    wanted = asked or ((_split(hwaccel.modules) or HARDWARE_MODULES) if hwaccel.enable else ())
    allowed = [module for module in wanted if hwaccel.enable or _name(module) not in HARDWARE_MODULES]
    if len(allowed) < len(wanted):
        log.warning("hardware encoder asked for and HWAccels/Encoder is off modules=%s", ",".join(wanted))
    if not any(_name(module) not in HARDWARE_MODULES for module in allowed):
        allowed.append("default")
    return tuple(allowed)


def _with_an_encoder(codec: Codec, modules: tuple[str, ...], variant: str) -> tuple[str, ...]:
    """``modules``, with software behind them when none makes ``codec``. Raises ConfigError when nothing does."""
    try:
        candidates(codec, modules)
    except ConfigError:
        candidates(codec)
        log.warning("no module makes the codec, software does variant=%s codec=%s modules=%s", variant, codec,
                    ",".join(modules))  # fmt: skip
        return (*modules, "default")
    return modules


def _split(modules: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in modules.split(",") if part.strip())


def _name(module: str) -> str:
    return module.partition(":")[0].lower()
