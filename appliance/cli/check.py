"""``kiln check``: what is wrong with a configuration file, all of it at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import ConfigError
from appliance.media.track import Codec
from appliance.settings import models
from appliance.settings.advice import Advice, about, advise
from appliance.settings.walk import Spot, spots
from appliance.settings.xml import Fault, LoadedServer, load_xml
from appliance.transcoder import sources
from appliance.transcoder.encoders import HARDWARE_MODULES, candidates, split_codec
from appliance.transcoder.spec import AAC_SAMPLE_RATES, OPUS_SAMPLE_RATE

AnyEncode = models.VideoEncode | models.AudioEncode | models.ImageEncode

_CODECS: dict[type[AnyEncode], tuple[Codec, ...]] = {
    models.VideoEncode: (Codec.H264, Codec.H265, Codec.VP8, Codec.VP9, Codec.AV1),
    models.AudioEncode: (Codec.AAC, Codec.OPUS),
    models.ImageEncode: (Codec.JPEG, Codec.PNG, Codec.WEBP),
}


def check(file: Path) -> int:
    """Print every fault, then what is doubtful. The exit status is 1 when there is a fault."""
    faults, warnings = findings(load_xml(file))
    for fault in faults:
        print(fault)
    for warning in warnings:
        print(f"warning: {warning}")
    if faults:
        count = len(faults)
        print(f"kiln check: {count} fault{'s' if count > 1 else ''} in {file}", file=sys.stderr)
        return 1
    print(f"{file}: no fault")
    return 0


def findings(loaded: LoadedServer) -> tuple[list[Fault], list[Fault]]:
    """Faults and warnings, of the reading and of all that can be known beyond it, in the order of files and lines."""
    faults, warnings = list(loaded.faults), list(loaded.warnings)
    if loaded.built is not None:
        for advice in (*advise(loaded.built), *_of_the_transcoder(loaded.built)):
            found = loaded.fault_at(advice.where, advice.path, advice.message, advice.hint)
            (faults if advice.fault else warnings).append(found)
    files = list(dict.fromkeys(str(place.file) for place in loaded.places.values()))
    for found_all in (faults, warnings):
        found_all.sort(key=lambda fault: (files.index(fault.file) if fault.file in files else 0, fault.line))
    return faults, warnings


def _of_the_transcoder(server: models.Server) -> Iterator[Advice]:
    for spot in spots(server):
        if isinstance(spot.node, models.CaptureStream):
            yield from _capture(spot)
        elif isinstance(spot.node, models.OutputProfiles):
            for kind in _CODECS:
                for below in spot.below(kind):
                    yield from _encode(below, spot.node.hwaccels.encoder)


def _capture(spot: Spot) -> Iterator[Advice]:
    try:
        sources.parse(spot.node.url)
    except ConfigError as error:
        yield about(spot, "url", str(error), error.hint, fault=True)


def _encode(spot: Spot, hwaccel: models.HwAccel) -> Iterator[Advice]:
    encode: AnyEncode = spot.node
    if not isinstance(encode, models.ImageEncode) and (encode.bypass or not encode.codec):
        return  # without a codec: a rule has said so
    kinds = _CODECS[type(encode)]
    choice = f"One of {', '.join(str(kind).lower() for kind in kinds)}."
    try:
        codec, suffix = split_codec(encode.codec)
    except ConfigError as error:
        yield about(spot, "codec", str(error), choice, fault=True)
        return
    if codec not in kinds:
        yield about(spot, "codec", f"{encode.codec} can't stand here", choice, fault=True)
        return
    yield from _modules(spot, codec, suffix, hwaccel)
    if isinstance(encode, models.AudioEncode):
        yield from _sample_rate(spot, codec, encode.samplerate)


def _modules(spot: Spot, codec: Codec, suffix: str, hwaccel: models.HwAccel) -> Iterator[Advice]:
    asked = [part.strip() for part in (suffix, *spot.node.modules.split(",")) if part.strip()]
    unknown = [module for module in asked if not _is_module(module)]
    for module in unknown:
        yield about(spot, "modules", f"unknown encoder module {module!r}", fault=True)
    hardware = [module for module in asked if _name(module) in HARDWARE_MODULES]
    if hardware and isinstance(spot.node, models.VideoEncode) and not hwaccel.enable:
        message = f"{', '.join(hardware)} needs HWAccels/Encoder/Enable: software encodes"
        yield about(spot, "modules", message)
    for module in asked:
        if module not in unknown:
            try:
                candidates(codec, (module,))
            except ConfigError as error:
                yield about(spot, "modules", f"{error}: it is left out")


def _sample_rate(spot: Spot, codec: Codec, wanted: int) -> Iterator[Advice]:
    taken = (OPUS_SAMPLE_RATE,) if codec is Codec.OPUS else AAC_SAMPLE_RATES
    if wanted > 0 and wanted not in taken:
        used = min((rate for rate in taken if rate >= wanted), default=max(taken))
        yield about(spot, "samplerate", f"{codec} has no {wanted} Hz: {used} Hz is used")


def _is_module(module: str) -> bool:
    try:
        split_codec(f"h264_{_name(module)}")
    except ConfigError:
        return False
    return True


def _name(module: str) -> str:
    return module.partition(":")[0].strip().lower()
