"""A port that SRT callers call: each is judged before it is connected, and told why when it is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import trio

from appliance.errors import KilnError
from appliance.net.srt import address
from appliance.net.srt.library import IN, REJECT_BY_SERVER, SrtError
from appliance.net.srt.poller import Poller
from appliance.net.srt.sockets import SrtHandle, SrtSocket, local_port, new_handle

if TYPE_CHECKING:
    from appliance.net.srt.library import Library

log = logging.getLogger("kiln.srt")

_BACKLOG: Final = 128
#: In the opinion of nobody: a fault of ours.
_FAULT: Final = REJECT_BY_SERVER + 500


@dataclass(frozen=True, slots=True)
class Caller:
    """Who wants in. ``peer`` is ``1.2.3.4:5678``; ``stream_id`` as it was sent, "" when none was."""

    peer: str
    address: str
    stream_id: str


Decide = Callable[[Caller], int]

#: What each listener decides by, by the number that libsrt gives back. C calls may come until the listener is closed
#: and a moment after, so a number is never used twice.
_deciders: dict[int, Decide] = {}
_numbers = count(1)
_hook: list[Any] = []


def _ask(library: Library, opaque: Any, handle: int, peer: Any, stream_id: Any) -> int:
    """In libsrt's own thread: 0 lets the caller in."""
    ffi = library.ffi
    decide = _deciders.get(int(ffi.cast("intptr_t", opaque)))
    if decide is None:
        return -1
    host, port = address.unpack(bytes(ffi.buffer(peer, address.SIZE)))
    text = "" if stream_id == ffi.NULL else library.text(stream_id)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        code = decide(Caller(shown, host, text))
    except Exception:
        log.exception("caller could not be judged peer=%s", shown)
        code = _FAULT
    if code:
        library.lib.srt_setrejectreason(handle, code)
        return -1
    return 0


def _hook_of(library: Library) -> Any:
    """One C function for all listeners; it lives as long as the process."""
    if not _hook:

        def asked(opaque: Any, handle: int, _version: int, peer: Any, stream_id: Any) -> int:
            return _ask(library, opaque, handle, peer, stream_id)

        _hook.append(library.ffi.callback("srt_listen_callback_fn", asked, error=-1))
    return _hook[0]


class SrtListener:
    """One address that callers call. ``options`` are libsrt's by name, a passphrase among them.

    ``decide(caller)`` is asked in a thread of libsrt while a caller waits: it must only look, be quick, and never
    wait. 0 lets the caller in; else it is the reject code, 1000 and an HTTP status. A wrong passphrase is refused by
    libsrt itself.
    """

    def __init__(
        self, host: str, port: int, *, options: Mapping[str, str] | None = None, decide: Decide | None = None
    ) -> None:
        self.host = host
        self._port = port
        self._options = dict(options or {})
        self._decide = decide
        self._number = 0
        self._handle: SrtHandle | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"srt://{host}:{self.port}"

    @property
    def port(self) -> int:
        """The port really bound, once it is."""
        return local_port(self._handle.poller, self._handle.handle) if self._handle else self._port

    @property
    def bound(self) -> bool:
        return self._handle is not None

    def bind(self) -> None:
        """Open the port; callers may call from now on. Raises SrtMissing, ConfigError (an option) and KilnError."""
        if self._handle is not None:
            return
        poller = Poller.current()
        host = {"*": "0.0.0.0", "": "0.0.0.0"}.get(self.host, self.host)
        options = {"SRTO_IPV6ONLY": "1", **self._options} if ":" in host else self._options
        opened = SrtHandle(poller, new_handle(poller, options))
        try:
            self._open(opened, host)
        except BaseException:
            opened.close()
            _deciders.pop(self._number, None)
            raise
        self._handle = opened

    def _open(self, opened: SrtHandle, host: str) -> None:
        library, handle = opened.library, opened.handle
        try:
            where = address.pack(host, self._port)
        except OSError:
            raise KilnError(f"can't listen on {self}: not an address of this machine") from None
        if library.lib.srt_bind(handle, where, len(where)) < 0:
            raise KilnError(f"can't listen on {self}: {library.reason()}",
                            hint="another program may listen there: stop it or choose another port")  # fmt: skip
        if self._decide is not None:
            self._number = next(_numbers)
            _deciders[self._number] = self._decide
            opaque = library.ffi.cast("void *", self._number)
            library.lib.srt_listen_callback(handle, _hook_of(library), opaque)
        if library.lib.srt_listen(handle, _BACKLOG) < 0:
            raise KilnError(f"can't listen on {self}: {library.reason()}")

    async def accept(self) -> SrtSocket:
        """The next caller that was let in. Raises SrtError when the listener is closed."""
        opened = self._handle
        if opened is None:
            raise SrtError(f"{self} is not bound")
        lib, null = opened.library.lib, opened.library.ffi.NULL
        await trio.lowlevel.checkpoint()
        while True:
            if opened.closed:
                raise SrtError(f"{self} is closed")
            handle = int(lib.srt_accept(opened.handle, null, null))
            if handle >= 0:
                return SrtSocket(opened.poller, handle)
            if opened.failed:
                raise SrtError(f"{self} has failed: {opened.library.reason()}")
            await opened.wait(IN)

    def close(self) -> None:
        """Callers that were accepted stay. Does nothing the second time."""
        opened, self._handle = self._handle, None
        if opened is not None:
            self._port = self._port or local_port(opened.poller, opened.handle)
            opened.close()
            _deciders.pop(self._number, None)
