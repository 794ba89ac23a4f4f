"""What an RTMP session tells its owner."""

from __future__ import annotations

import msgspec

from appliance.protocols.rtmp.address import Address


class Connect(msgspec.Struct, frozen=True):
    """The peer connected. ``four_ccs``: what it says it may send beyond the classic codecs (Enhanced RTMP)."""

    app: str
    tc_url: str
    software: str
    four_ccs: tuple[str, ...]


class Publish(msgspec.Struct, frozen=True):
    """The peer wants to publish. Answer with ``accept_publish`` or ``reject_publish``: nothing is read before that."""

    address: Address
    tc_url: str


class Video(msgspec.Struct, frozen=True, gc=False):
    """The body of an FLV video tag; ``timestamp`` in ms, 32 bits."""

    timestamp: int
    body: bytes


class Audio(msgspec.Struct, frozen=True, gc=False):
    """The body of an FLV audio tag; ``timestamp`` in ms, 32 bits."""

    timestamp: int
    body: bytes


class Metadata(msgspec.Struct, frozen=True):
    """onMetaData: what the publisher says about its stream."""

    timestamp: int
    values: dict[str, object]


class Data(msgspec.Struct, frozen=True):
    """Any other AMF data message: its name and its arguments."""

    timestamp: int
    name: str
    values: list[object]


class Unpublish(msgspec.Struct, frozen=True):
    """The peer ended its stream by ``command``; the connection stays."""

    command: str


class PlayRefused(msgspec.Struct, frozen=True):
    """The peer wanted to play and was told that there is nothing to play here."""

    stream: str


Event = Connect | Publish | Video | Audio | Metadata | Data | Unpublish | PlayRefused
