"""libsrt 1.4 and later of the system through cffi in ABI mode (its srt.h), loaded when SRT is first wanted."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import NotBuilt, Unavailable

if TYPE_CHECKING:
    from _cffi_backend import FFI

log = logging.getLogger("kiln.srt")

#: Tried in order: the names of distributions' packages, then of what was built by hand.
NAMES: Final = (
    "libsrt-gnutls.so.1.5", "libsrt-openssl.so.1.5", "libsrt.so.1.5", "libsrt.so.1", "libsrt-gnutls.so.1.4",
    "libsrt.so.1.4", "libsrt.so", "libsrt.dylib",
)  # fmt: skip
HINT: Final = "install libsrt (Debian: libsrt1.5-openssl or libsrt1.5-gnutls); all else works without it"

# srt_getlasterror
ECONNLOST: Final = 2001
EASYNC_SEND: Final = 6001
EASYNC_RECEIVE: Final = 6002
ECONGEST: Final = 6004
# srt_epoll_*
IN: Final = 0x1
OUT: Final = 0x4
ERR: Final = 0x8
ENABLE_EMPTY: Final = 1
# srt_getsockstate
CONNECTED: Final = 5
_LOG_CRITICAL: Final = 2
#: Reject codes from here on are the application's (access_control.h): 1000 and an HTTP status.
REJECT_BY_SERVER: Final = 1000

_BY_SERVER: Final = {
    1400: "the stream id is not understood", 1401: "the key is missing or wrong", 1402: "the server is full",
    1403: "not allowed", 1404: "there is no such thing", 1405: "not in this mode", 1409: "the name is in use",
    1500: "a fault of the server", 1501: "not there in this version", 1503: "the server is not ready",
}  # fmt: skip


class SrtMissing(NotBuilt):
    """libsrt is not installed on this machine."""

    def __init__(self) -> None:
        super().__init__("SRT is off: libsrt is not installed", hint=HINT)


class SrtError(Unavailable):
    """libsrt refused a call. The message has its reason."""


class SrtRefused(SrtError):
    """The far end did not take the connection: ``code`` is SRT's reject reason (over 1000: the far end's own)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Library:
    """The loaded library. ``lib`` has its functions, ``ffi`` makes their arguments."""

    def __init__(self, ffi: FFI, lib: Any, name: str) -> None:
        self.ffi = ffi
        self.lib = lib
        self.name = name
        lib.srt_startup()
        # Whatever libsrt has to say is in its return values; a peer must not be able to fill our log.
        lib.srt_setloglevel(_LOG_CRITICAL)

    @property
    def version(self) -> str:
        number = self.lib.srt_getversion()
        return f"{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"

    def text(self, string: Any) -> str:
        """A C string, of 512 bytes at most."""
        raw = self.ffi.string(string, 512)
        return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw

    def last_error(self) -> int:
        return int(self.lib.srt_getlasterror(self.ffi.NULL))

    def reason(self) -> str:
        """What the last call of this thread failed with."""
        return self.text(self.lib.srt_getlasterror_str()).strip().rstrip(".").lower()

    def reject_text(self, code: int) -> str:
        if code >= REJECT_BY_SERVER:
            return f"{_BY_SERVER.get(code, 'refused by the server')} (code {code})"
        return self.text(self.lib.srt_rejectreason_str(code)).strip().lower()


_loading = threading.Lock()


def library() -> Library:
    """Load libsrt and start it, once a process; the first call takes some ms. Any thread may call it.

    Raises SrtMissing.
    """
    with _loading:
        return _load()


@cache
def _load() -> Library:
    # What cffi made of the declarations: reading C here would take ten times as long.
    from appliance.net.srt._libsrt import ffi

    for name in NAMES:
        try:
            lib = ffi.dlopen(name)
        except OSError:
            continue
        loaded = Library(ffi, lib, name)
        log.info("libsrt loaded name=%s version=%s", name, loaded.version)
        return loaded
    raise SrtMissing


def installed() -> bool:
    """Whether libsrt can be loaded here."""
    try:
        library()
    except SrtMissing:
        return False
    return True


def version() -> str:
    """``libsrt-gnutls.so.1.5 1.5.1``. Raises SrtMissing."""
    loaded = library()
    return f"{loaded.name} {loaded.version}"
