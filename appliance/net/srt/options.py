"""Socket options of libsrt by their names (srt.h, SRT_SOCKOPT), as Server.xml and URLs give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.errors import ConfigError
from appliance.net.srt.library import Library

#: Name -> (number, kind): i32, i64, bool or text.
_OPTIONS: Final[dict[str, tuple[int, str]]] = {
    "SRTO_MSS": (0, "i32"), "SRTO_FC": (4, "i32"), "SRTO_SNDBUF": (5, "i32"), "SRTO_RCVBUF": (6, "i32"),
    "SRTO_UDP_SNDBUF": (8, "i32"), "SRTO_UDP_RCVBUF": (9, "i32"), "SRTO_REUSEADDR": (15, "bool"),
    "SRTO_MAXBW": (16, "i64"), "SRTO_TSBPDMODE": (22, "bool"), "SRTO_LATENCY": (23, "i32"),
    "SRTO_INPUTBW": (24, "i64"), "SRTO_OHEADBW": (25, "i32"), "SRTO_PASSPHRASE": (26, "text"),
    "SRTO_PBKEYLEN": (27, "i32"), "SRTO_IPTTL": (29, "i32"), "SRTO_IPTOS": (30, "i32"),
    "SRTO_TLPKTDROP": (31, "bool"), "SRTO_SNDDROPDELAY": (32, "i32"), "SRTO_NAKREPORT": (33, "bool"),
    "SRTO_CONNTIMEO": (36, "i32"), "SRTO_DRIFTTRACER": (37, "bool"), "SRTO_MININPUTBW": (38, "i64"),
    "SRTO_LOSSMAXTTL": (42, "i32"), "SRTO_RCVLATENCY": (43, "i32"), "SRTO_PEERLATENCY": (44, "i32"),
    "SRTO_MINVERSION": (45, "i32"), "SRTO_STREAMID": (46, "text"), "SRTO_CONGESTION": (47, "text"),
    "SRTO_PAYLOADSIZE": (49, "i32"), "SRTO_KMREFRESHRATE": (51, "i32"), "SRTO_KMPREANNOUNCE": (52, "i32"),
    "SRTO_ENFORCEDENCRYPTION": (53, "bool"), "SRTO_IPV6ONLY": (54, "i32"), "SRTO_PEERIDLETIMEO": (55, "i32"),
    "SRTO_BINDTODEVICE": (56, "text"), "SRTO_PACKETFILTER": (60, "text"), "SRTO_RETRANSMITALGO": (61, "i32"),
}  # fmt: skip
#: Ours to decide, or of modes that carry no live stream.
_REFUSED: Final = frozenset({
    "SRTO_SNDSYN", "SRTO_RCVSYN", "SRTO_LINGER", "SRTO_RENDEZVOUS", "SRTO_SNDTIMEO", "SRTO_RCVTIMEO", "SRTO_SENDER",
    "SRTO_MESSAGEAPI", "SRTO_TRANSTYPE", "SRTO_GROUPCONNECT", "SRTO_GROUPTYPE", "SRTO_GROUPMINSTABLETIMEO",
})  # fmt: skip
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_RANGES: Final = {"i32": 1 << 31, "i64": 1 << 63}

RCVSYN: Final = 2
SNDSYN: Final = 1
STREAMID: Final = 46
RCVLATENCY: Final = 43

#: What every socket of ours has unless it is told otherwise: a publisher that is gone is noticed in 5 s.
DEFAULTS: Final[Mapping[str, str]] = {"SRTO_PEERIDLETIMEO": "5000", "SRTO_UDP_RCVBUF": "4194304"}


def check_options(options: Mapping[str, str]) -> None:
    """Raises ConfigError for names and values that libsrt would not take. Needs no libsrt."""
    for name, text in options.items():
        _encode(name, text)


def apply_options(library: Library, socket: int, options: Mapping[str, str]) -> None:
    """Set ``options`` (names of libsrt; times in ms) on a socket that is not connected yet. Raises ConfigError."""
    for name, text in {**DEFAULTS, **options}.items():
        number, value = _encode(name, text)
        if library.lib.srt_setsockflag(socket, number, value, len(value)) < 0:
            raise ConfigError(f"libsrt does not take {name}: {library.reason()}")


def set_flag(library: Library, socket: int, number: int, value: bool) -> None:
    library.lib.srt_setsockflag(socket, number, bytes((value,)), 1)


def _encode(name: str, text: str) -> tuple[int, bytes]:
    if name in _REFUSED:
        raise ConfigError(f"{name} can't be set here: the box decides it")
    if name not in _OPTIONS:
        raise ConfigError(f"libsrt has no option {name[:40]!r}")
    number, kind = _OPTIONS[name]
    if kind == "text":
        value = text.encode()
        if name == "SRTO_PASSPHRASE" and value and not 10 <= len(value) <= 79:
            raise ConfigError("an SRT passphrase has 10 to 79 characters")
        if len(value) > 512:
            raise ConfigError(f"{name} is longer than 512 bytes")
        return number, value
    low = text.strip().lower()
    if kind == "bool":
        if low not in _TRUE | _FALSE:
            raise ConfigError(f"{name} is true or false, not {text[:40]!r}")
        return number, bytes((low in _TRUE,))
    try:
        figure = int(low)
    except ValueError:
        raise ConfigError(f"{name} is a whole number, not {text[:40]!r}") from None
    limit = _RANGES[kind]
    if not -limit <= figure < limit:
        raise ConfigError(f"{name} is out of range: {text[:40]}")
    if name == "SRTO_PBKEYLEN" and figure not in (0, 16, 24, 32):
        raise ConfigError("SRTO_PBKEYLEN is 0, 16, 24 or 32 bytes")
    return number, figure.to_bytes(8 if kind == "i64" else 4, "little", signed=True)
