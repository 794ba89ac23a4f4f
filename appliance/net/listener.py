"""Where a server listens: TCP, TLS or a unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence

from appliance.errors import KilnError
from appliance.net.tls import TlsContexts

_BACKLOG = 1024
_UNIX_MODE = 0o660


class Listener:
    """One address to listen on. ``bind`` opens it, ``close`` closes it (and removes a unix socket's path).

    ``host`` is ``*`` (every IPv4 address), ``::`` (every IPv6 address), an address, or a name.
    Port 0 lets the kernel choose.
    """

    def __init__(self, host: str, port: int, contexts: TlsContexts | None, path: str) -> None:
        self.host = host
        self.contexts = contexts
        self.path = path
        self._port = port
        self._socket: socket.socket | None = None
        self._inode = 0

    @classmethod
    def tcp(cls, host: str, port: int) -> Listener:
        return cls(host, port, None, "")

    @classmethod
    def tls(cls, host: str, port: int, contexts: TlsContexts) -> Listener:
        return cls(host, port, contexts, "")

    @classmethod
    def unix(cls, path: str | os.PathLike[str]) -> Listener:
        """A socket at ``path``, mode 0660. A path left over by a dead process is replaced."""
        return cls("", 0, None, os.fspath(path))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.contexts else 'tcp'}://{host}:{self.port}"

    @property
    def port(self) -> int:
        """The port really bound, once it is."""
        if self._socket is not None and not self.path:
            return int(self._socket.getsockname()[1])
        return self._port

    @property
    def bound(self) -> bool:
        return self._socket is not None

    @property
    def sock(self) -> socket.socket:
        """The listening socket. Raises KilnError before ``bind``."""
        if self._socket is None:
            raise KilnError(f"{self} is not bound")
        return self._socket

    def bind(self) -> None:
        """Open the socket. Raises KilnError with address and reason. Does nothing when it is open."""
        if self._socket is None:
            try:
                self._socket = self._bind_unix() if self.path else self._bind_tcp()
            except OSError as error:
                raise KilnError(f"can't listen on {self}: {_reason(error)}", hint=_hint(error)) from error

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
            if self.path:
                with contextlib.suppress(OSError):
                    if os.stat(self.path).st_ino == self._inode:
                        os.unlink(self.path)

    def _bind_tcp(self) -> socket.socket:
        host = "0.0.0.0" if self.host in ("*", "") else self.host
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind_unix(self) -> socket.socket:
        _remove_stale(self.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            # Linux gives the path the mode of the unbound socket, so that it is never wider than this.
            os.fchmod(sock.fileno(), _UNIX_MODE)
            sock.bind(self.path)
            os.chmod(self.path, _UNIX_MODE)
            self._inode = os.stat(self.path).st_ino
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock


def bind_listeners(listeners: Sequence[Listener]) -> list[Listener]:
    """Bind all, or none. Raises KilnError naming the address and the reason."""
    opened: list[Listener] = []
    try:
        for listener in listeners:
            if not listener.bound:
                listener.bind()
                opened.append(listener)
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return list(listeners)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process answers there")


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use"
    return error.strerror or str(error)


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program, or another Kiln, listens there: stop it or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 and some folders need rights that this user has not"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return ""
