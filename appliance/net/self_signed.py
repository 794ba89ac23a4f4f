"""A certificate that the box makes for itself: P-256, made in a process of its own, for the library that does it takes
0.2 s and 12 MB to load and is needed once in two years.

``python -m appliance.net.self_signed NAME…`` writes the certificate, then its key, as PEM.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from appliance.errors import ConfigError, KilnError
from appliance.net.certificate import blocks_of, key_of, read_file

DAYS = 825
RENEW_DAYS = 30
#: How long the process may take (s).
MADE_WITHIN = 30.0
_MOST_NAMES = 100
_SIOCGIFCONF = 0x8912


def self_signed(names: Sequence[str], directory: str | Path, *, cover: bool = False) -> tuple[Path, Path]:
    """Paths of certificate and key (P-256, mode 0600) for ``names`` (host names or addresses) in ``directory``.

    What is there already is kept while it is valid for 30 days more and for the same names (``cover``: for these
    names, whatever others it has). Blocks while one is made. Raises KilnError, OSError.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    cert_path, key_path = folder / "self_signed.crt", folder / "self_signed.key"
    if not still_good(cert_path, key_path, names, cover=cover):
        certificate, key = make(names)
        store(key_path, key, 0o600)
        store(cert_path, certificate, 0o644)
    return cert_path, key_path


def still_good(cert_path: Path, key_path: Path, names: Sequence[str], *, cover: bool = False) -> bool:
    """Whether certificate and key belong together, are for ``names``, and valid for 30 days more."""
    try:
        found = read_file(cert_path)[0]
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_path, key_path)
    except (ConfigError, OSError, ValueError):
        return False
    had, wanted = set(map(_plain, found.names)), set(map(_plain, names))
    return (wanted <= had if cover else wanted == had) and found.not_after - time.time() > RENEW_DAYS * 86400


def make(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Certificate and key as PEM. Raises KilnError when the process fails."""
    command = [sys.executable, "-m", "appliance.net.self_signed", *names[:_MOST_NAMES]]
    try:
        done = subprocess.run(command, capture_output=True, timeout=MADE_WITHIN, stdin=subprocess.DEVNULL, check=True)
        return blocks_of(done.stdout)[0], key_of(done.stdout)
    except (OSError, subprocess.SubprocessError, ConfigError, IndexError) as error:
        said = getattr(error, "stderr", b"") or b""
        reason = said.decode("utf-8", "replace").strip().splitlines()[-1:] or [str(error)]
        raise KilnError(f"no certificate could be made: {reason[0]}") from error


def store(path: Path, content: bytes, mode: int) -> None:
    """Write the file whole or not at all, also when the power goes. Raises OSError."""
    partial = path.with_suffix(path.suffix + ".new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def own_names() -> list[str]:
    """The names by which this box is reached: host name, ``localhost``, and its addresses without link-local ones."""
    names = dict.fromkeys([socket.gethostname(), "localhost", "127.0.0.1", "::1"])
    names.update(dict.fromkeys([*_ipv4(), *_ipv6()]))
    return [name for name in names if name and len(name) <= 253][:_MOST_NAMES]


def _ipv4() -> list[str]:
    import array
    import fcntl

    found = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # struct ifconf: length and address of an array of struct ifreq, 40 bytes each (netdevice(7)).
        room = array.array("B", bytes(40 * 128))
        address, length = room.buffer_info()
        asked = length.to_bytes(4, sys.byteorder) + bytes(4) + address.to_bytes(8, sys.byteorder)
        got = int.from_bytes(fcntl.ioctl(probe, _SIOCGIFCONF, asked)[:4], sys.byteorder)
        found = [socket.inet_ntoa(bytes(room[at + 20 : at + 24])) for at in range(0, got, 40)]
    return [each for each in found if not ipaddress.ip_address(each).is_link_local]


def _ipv6() -> list[str]:
    found = []
    with suppress(OSError, ValueError), open("/proc/net/if_inet6", encoding="ascii") as table:
        for line in table:
            address = ipaddress.IPv6Address(int(line.split()[0], 16))
            if not address.is_link_local:
                found.append(str(address))
    return found


def _plain(name: str) -> str:
    """Addresses in one spelling."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


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
            with suppress(ValueError):  # a host name that is none: it can't be asked for either
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
        .not_valid_after(begin + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


if __name__ == "__main__":
    sys.stdout.buffer.write(b"".join(_make(sys.argv[1:])))
