"""RTMP without sockets: bytes in, events and bytes out (RTMP 1.0, Enhanced RTMP 2, wire catalogue 5)."""

from appliance.protocols.rtmp.address import Address, parse_address
from appliance.protocols.rtmp.client import ClientEvent, ClientState, Ended, Refused, RtmpClient, Started
from appliance.protocols.rtmp.events import (
    Audio,
    Connect,
    Data,
    Event,
    Metadata,
    PlayRefused,
    Publish,
    Unpublish,
    Video,
)
from appliance.protocols.rtmp.server import RtmpServer, State

__all__ = [
    "Address",
    "Audio",
    "ClientEvent",
    "ClientState",
    "Connect",
    "Data",
    "Ended",
    "Event",
    "Metadata",
    "PlayRefused",
    "Publish",
    "Refused",
    "RtmpClient",
    "RtmpServer",
    "Started",
    "State",
    "Unpublish",
    "Video",
    "parse_address",
]
