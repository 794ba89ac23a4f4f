"""TLS: a certificate a virtual host, chosen by SNI and replaced while connections live."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from appliance.errors import ConfigError

DEFAULT_HOST = "*"
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SELF_SIGNED_DAYS = 825
_RENEW_DAYS = 30


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


def self_signed(names: Sequence[str], directory: str | Path) -> tuple[Path, Path]:
    """Paths of certificate and key (P-256, mode 0600) for ``names`` (host names or addresses) in ``directory``.

    What is there already is kept while it is for the same names and valid for 30 days more.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    cert_path, key_path = folder / "self_signed.crt", folder / "self_signed.key"
    if not _still_good(cert_path, key_path, names):
        certificate, key = _make(names)
        _store(key_path, key, 0o600)
        _store(cert_path, certificate, 0o644)
    return cert_path, key_path


def _still_good(cert_path: Path, key_path: Path, names: Sequence[str]) -> bool:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_path, key_path)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    stored = {str(name.value) for name in alternatives}
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return stored == set(names) and left > datetime.timedelta(days=_RENEW_DAYS)


def _make(names: Sequence[str]) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (names[0] if names else "kiln")[:64])])
    # A box without a battery clock may be days off at its first start.
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def _store(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_suffix(path.suffix + ".new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
