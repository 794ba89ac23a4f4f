"""What is written in a certificate, read with what the interpreter has: no library is loaded for it."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import ConfigError

LARGEST = 256 * 1024
"""Bytes of a PEM file."""
MOST = 16
"""Certificates in a file."""
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """``subject`` and ``issuer`` as ``CN=box,O=Example``; ``names`` host names and addresses; ``not_before`` and
    ``not_after`` seconds since 1970; ``fingerprint`` SHA-256 in hex."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: int
    not_after: int
    serial: str
    fingerprint: str

    @property
    def self_signed(self) -> bool:
        return self.subject == self.issuer

    def covers(self, host: str) -> bool:
        """Whether a client that asks for ``host`` takes it, by its names."""
        wanted = host.lower()
        wildcard = "*." + wanted.partition(".")[2]
        return any(name.lower() in (wanted, wildcard) for name in self.names)


def read_file(path: str | os.PathLike[str]) -> list[CertificateInfo]:
    """All certificates of a PEM file, in its order. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    return read_pem(data)


def read_pem(data: bytes) -> list[CertificateInfo]:
    """All certificates of a PEM text, in its order. Raises ConfigError when there is none, or one can't be read."""
    if len(data) > LARGEST:
        raise ConfigError(f"A certificate file is at most {LARGEST // 1024} KiB")
    blocks = blocks_of(data)
    if not blocks:
        raise ConfigError("There is no certificate in it", hint="It is a PEM text: -----BEGIN CERTIFICATE----- …")
    if len(blocks) > MOST:
        raise ConfigError(f"There are more than {MOST} certificates in it")
    return [_read(block) for block in blocks]


def blocks_of(data: bytes) -> list[bytes]:
    """The certificates in a PEM text, each as PEM."""
    return [block + b"\n" for block in _BLOCK.findall(data)]


def key_of(data: bytes) -> bytes:
    """The private key in a PEM text. Raises ConfigError when there is none, or more than one, or it is encrypted."""
    keys = _KEY.findall(data)
    if len(keys) != 1:
        what = "no private key" if not keys else "more than one private key"
        raise ConfigError(f"There is {what} in it", hint="It is a PEM text: -----BEGIN PRIVATE KEY----- …")
    if b"ENCRYPTED" in keys[0]:
        raise ConfigError("The key is encrypted", hint="Send it without a pass phrase.")
    key: bytes = keys[0] + b"\n"
    return key


def _read(block: bytes) -> CertificateInfo:
    # The interpreter decodes certificates of files alone; the call is that of its own tests, there since 2.6.
    decode: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(block)
        file.flush()
        try:
            told: Mapping[str, Any] = decode(file.name)
            der = ssl.PEM_cert_to_DER_cert(block.decode("ascii"))
        except (ssl.SSLError, ValueError, OSError) as error:
            raise ConfigError(f"A certificate can't be read: {error}") from error
    return CertificateInfo(
        subject=_name(told.get("subject", ())),
        issuer=_name(told.get("issuer", ())),
        names=tuple(_spelled(value) for kind, value in told.get("subjectAltName", ()) if kind in ("DNS", "IP Address")),
        not_before=int(ssl.cert_time_to_seconds(told["notBefore"])),
        not_after=int(ssl.cert_time_to_seconds(told["notAfter"])),
        serial=str(told.get("serialNumber", "")),
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def _spelled(name: str) -> str:
    """Addresses in their usual spelling."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


_SHORT = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "localityName": "L", "stateOrProvinceName": "ST",
}  # fmt: skip


def _name(parts: Any) -> str:
    return ",".join(f"{_SHORT.get(key, key)}={value}" for part in parts for key, value in part)
