"""TLS: a certificate a virtual host, chosen by SNI and replaced while connections live."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from appliance.errors import ConfigError
from appliance.net.self_signed import self_signed

__all__ = ["DEFAULT_HOST", "CertificateFiles", "TlsContexts", "handshake", "self_signed"]

DEFAULT_HOST = "*"
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the certificate (perhaps with its chain), its key, and perhaps the chain on its own."""

    cert_path: Path
    key_path: Path
    chain_path: Path | None = None


class TlsContexts:
    """The certificates of a port, by host name. ``*`` is the default, ``*.example.com`` matches one label.

    Without a default, a client that names no known host is refused with ``unrecognized_name``. A change holds for new
    handshakes; connections that are up go on with what they have.
    """

    def __init__(self, alpn: Sequence[str] = ("h2", "http/1.1")) -> None:
        self._alpn = list(alpn)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._files: dict[str, CertificateFiles] = {}
        self._empty = self._new_context()

    @property
    def files(self) -> Mapping[str, CertificateFiles]:
        """Which files are shown, by host name."""
        return self._files

    @property
    def hosts(self) -> list[str]:
        return sorted(self._contexts)

    def replace(
        self, host: str, cert_path: str | Path, key_path: str | Path, chain_path: str | Path | None = None
    ) -> None:
        """Set or change the certificate of ``host``. Raises ConfigError, and then the old one stays."""
        files = CertificateFiles(Path(cert_path), Path(key_path), Path(chain_path) if chain_path else None)
        context = self._load(host, files)
        self._contexts[host.lower()] = context
        self._files[host.lower()] = files

    def remove(self, host: str) -> None:
        """Forget the certificate of ``host``."""
        self._contexts.pop(host.lower(), None)
        self._files.pop(host.lower(), None)

    def reload(self) -> list[ConfigError]:
        """Read all files again. Those that are bad now keep what they had, and are returned."""
        faults = []
        for host, files in list(self._files.items()):
            try:
                self._contexts[host] = self._load(host, files)
            except ConfigError as error:
                faults.append(error)
        return faults

    @property
    def default(self) -> ssl.SSLContext:
        """The context to begin a handshake with; the client's SNI then chooses another."""
        return self._contexts.get(DEFAULT_HOST, self._empty)

    def for_host(self, host: str) -> ssl.SSLContext | None:
        """The context for that server name, else the default, else None."""
        name = host.lower().rstrip(".")
        wildcard = "*." + name.partition(".")[2]
        return self._contexts.get(name) or self._contexts.get(wildcard) or self._contexts.get(DEFAULT_HOST)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(self._alpn)
        context.num_tickets = 1
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        context = self.for_host(name or "")
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = context
        return None

    def _load(self, host: str, files: CertificateFiles) -> ssl.SSLContext:
        context = self._new_context()
        where = f"certificate of {'the default host' if host == DEFAULT_HOST else host}"
        for path in (files.cert_path, files.key_path, files.chain_path):
            if path is not None and not path.is_file():
                raise ConfigError(f"{where}: {path} is not there")

        def no_password() -> str:
            raise ConfigError(f"{where}: the key {files.key_path} is encrypted", hint="store it without a pass phrase")

        try:
            with _one_file(files) as chain:
                context.load_cert_chain(chain, files.key_path, password=no_password)
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
            raise ConfigError(f"{where}: {files.cert_path} with {files.key_path} can't be used: {reason}") from error
        return context


@contextlib.contextmanager
def _one_file(files: CertificateFiles) -> Iterator[Path]:
    if files.chain_path is None:
        yield files.cert_path
        return
    with tempfile.NamedTemporaryFile(suffix=".pem") as joined:
        joined.write(files.cert_path.read_bytes().rstrip() + b"\n" + files.chain_path.read_bytes())
        joined.flush()
        yield Path(joined.name)


async def handshake(sock: ssl.SSLSocket, slots: trio.Semaphore) -> None:
    """Shake hands as server on a non-blocking socket. Raises OSError (ssl.SSLError among them) or ValueError.

    A slot is held only while bytes are worked on, one step a scheduler pass: silent peers hold none, and of many
    that come at once only as many as there are slots compute before other tasks run again.
    """
    await trio.lowlevel.wait_readable(sock)
    while True:
        async with slots:
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                waits_to_read = True
            except ssl.SSLWantWriteError:
                waits_to_read = False
            else:
                return
            await trio.lowlevel.checkpoint()
        if waits_to_read:
            await trio.lowlevel.wait_readable(sock)
        else:
            await trio.lowlevel.wait_writable(sock)
