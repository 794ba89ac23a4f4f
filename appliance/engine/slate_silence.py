"""Frames of silence: constant bytes in each codec of sound, so that nothing has to be encoded."""

from __future__ import annotations

from appliance.errors import RemoteProtocolError
from appliance.media.clock import rescale
from appliance.media.codecs.aac import LC, AudioConfig
from appliance.media.track import Codec, Track

#: Channel configurations as syntax elements (ISO/IEC 14496-3 table 1.19): S single, P pair, L low frequencies.
_ELEMENTS = {1: "S", 2: "P", 3: "SP", 4: "SPS", 5: "SPP", 6: "SPPL"}
_IDS = {"S": "000", "P": "001", "L": "011"}
#: An individual channel stream without a single spectral value: global gain, long window, no bands, no tools.
_ICS_INFO = "0" + "00" + "0" + "000000" + "0"
_NO_TOOLS = "000"
_GAIN = "00000000"
#: CELT, fullband, 20 ms, one frame; the stereo bit is 4. Its two bytes say that the frame is silent.
_OPUS_TOC, _OPUS_SILENT = 0xF8, b"\xff\xfe"
#: G.711 comes in packets of 20 ms.
_G711_A_SECOND = 50


def silence(track: Track) -> tuple[bytes, int] | None:
    """One packet of silence and its duration in ticks of ``track``; None for a codec that has none so short."""
    match track.codec:
        case Codec.AAC:
            return _aac(track)
        case Codec.OPUS:
            stereo = 4 if track.channels == 2 else 0
            if track.channels > 2:
                return None
            return bytes([_OPUS_TOC | stereo]) + _OPUS_SILENT, rescale(1, 50, track.timescale)
        case Codec.PCMA | Codec.PCMU:
            samples = (track.sample_rate or 8000) // _G711_A_SECOND * max(1, track.channels)
            level = b"\xd5" if track.codec is Codec.PCMA else b"\xff"
            return level * samples, rescale(1, _G711_A_SECOND, track.timescale)
    return None


def _aac(track: Track) -> tuple[bytes, int] | None:
    try:
        config = AudioConfig.parse(track.codec_config)
    except RemoteProtocolError:
        return None
    elements = _ELEMENTS.get(1 if config.ps else config.channels)
    if config.object_type != LC or elements is None or (config.sbr and config.channels > 2):
        # FFmpeg's decoder does not survive surround sound whose extension is told and missing.
        return None
    # 14496-3 4.4.2.1 raw_data_block: the elements, each with the next tag of its kind, and the end.
    bits = ""
    for position, element in enumerate(elements):
        tag = elements[:position].count(element)
        bits += _IDS[element] + f"{tag:04b}"
        channel = _GAIN + _NO_TOOLS
        if element == "P":
            # One window for both, and no mid/side coding.
            bits += "1" + _ICS_INFO + "00" + channel * 2
        else:
            bits += _GAIN + _ICS_INFO + _NO_TOOLS
    bits += "111"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big"), rescale(config.frame_length, config.core_rate, track.timescale)
