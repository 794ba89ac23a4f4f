"""Fragmented MP4 (CMAF): init segments, fragments, event messages. ISO/IEC 14496-12, 23000-19; wire catalogue 4.10."""

from appliance.protocols.fmp4.codecs import SUPPORTED_CODECS, codec_string
from appliance.protocols.fmp4.fragment import KEY_SAMPLE, OTHER_SAMPLE, event_message, fragment, id3_message
from appliance.protocols.fmp4.init import init_segment

__all__ = [
    "KEY_SAMPLE",
    "OTHER_SAMPLE",
    "SUPPORTED_CODECS",
    "codec_string",
    "event_message",
    "fragment",
    "id3_message",
    "init_segment",
]
