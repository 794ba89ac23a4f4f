"""TLS: certificates by host name, their replacement while connections live, and handshakes that do not end."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import ConfigError
from appliance.net.limits import Limits
from appliance.net.tls import TlsContexts, self_signed
from tests.net.http_kit import Client, Serving, hello, serving, until


async def serial(it: Serving, name: str, ca: Path | None = None) -> tuple[Client, int]:
    """A connection with that server name, and the serial number of the certificate it was shown."""
    client = await it.connect_tls(name, ca=ca)
    der = client.stream.getpeercert(True)  # type: ignore[attr-defined]
    return client, x509.load_der_x509_certificate(der).serial_number


def serial_of(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


async def test_each_host_gets_its_certificate_and_a_swap_leaves_connections_alone(tmp_path: Path) -> None:
    one = self_signed(["one.test"], tmp_path / "1")
    two = self_signed(["two.test", "127.0.0.1"], tmp_path / "2")
    wild = self_signed(["*.wild.test"], tmp_path / "w")
    tls = TlsContexts()
    tls.replace("*", *one)
    tls.replace("Two.test", *two)
    tls.replace("*.wild.test", *wild)
    assert tls.hosts == ["*", "*.wild.test", "two.test"]
    async with serving(hello, tls=tls) as it:
        first, shown = await serial(it, "one.test", one[0])
        assert shown == serial_of(one[0])
        assert (await serial(it, "two.test", two[0]))[1] == serial_of(two[0])
        assert (await serial(it, "TWO.test"))[1] == serial_of(two[0])
        assert (await serial(it, "a.wild.test", wild[0]))[1] == serial_of(wild[0])
        assert (await serial(it, "a.b.wild.test"))[1] == serial_of(one[0])
        assert (await first.get()).body == b"hello"

        new = self_signed(["one.test"], tmp_path / "new")
        tls.replace("*", *new)
        assert (await first.get()).body == b"hello"
        second, shown = await serial(it, "one.test", new[0])
        assert shown == serial_of(new[0])
        assert (await second.get()).body == b"hello"

        tls.remove("two.test")
        assert (await serial(it, "two.test"))[1] == serial_of(new[0])


async def test_alpn_and_versions(tmp_path: Path) -> None:
    tls = TlsContexts()
    tls.replace("*", *self_signed(["localhost"], tmp_path))
    async with serving(hello, tls=tls) as it:
        for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["other"], None)):
            client = await it.connect_tls("localhost", alpn=offered)
            assert client.stream.selected_alpn_protocol() == chosen  # type: ignore[attr-defined]
            if chosen != "h2":
                assert (await client.get()).body == b"hello"
    assert tls.default.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_an_unknown_host_without_a_default_is_refused(tmp_path: Path) -> None:
    tls = TlsContexts()
    tls.replace("known.test", *self_signed(["known.test"], tmp_path))
    async with serving(hello, tls=tls) as it:
        with pytest.raises(trio.BrokenResourceError):
            await it.connect_tls("unknown.test")
        assert (await (await it.connect_tls("known.test")).get()).body == b"hello"


async def test_a_bad_certificate_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    good = self_signed(["box.test"], tmp_path / "good")
    other = self_signed(["box.test"], tmp_path / "other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    key = ec.generate_private_key(ec.SECP256R1())
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    tls = TlsContexts()
    tls.replace("*", *good)
    for cert, key_path, chain, reason in (
        (garbage, good[1], None, "garbage"),
        (good[0], garbage, None, "garbage"),
        (good[0], other[1], None, "MISMATCH"),
        (tmp_path / "none", good[1], None, "not there"),
        (good[0], tmp_path / "none", None, "not there"),
        (good[0], good[1], tmp_path / "none", "not there"),
        (good[0], encrypted, None, "encrypted"),
    ):
        with pytest.raises(ConfigError, match=reason):
            tls.replace("*", cert, key_path, chain)
        with pytest.raises(ConfigError):
            tls.replace("new.test", cert, key_path, chain)
    assert tls.hosts == ["*"]
    async with serving(hello, tls=tls) as it:
        assert (await serial(it, "box.test", good[0]))[1] == serial_of(good[0])


async def test_reload_takes_new_files_and_reports_bad_ones(tmp_path: Path) -> None:
    a, b = self_signed(["a.test"], tmp_path / "a"), self_signed(["b.test"], tmp_path / "b")
    tls = TlsContexts()
    tls.replace("*", *a)
    tls.replace("b.test", *b)
    new = self_signed(["a.test"], tmp_path / "new")
    old_b = serial_of(b[0])
    for source, target in zip(new, a, strict=True):
        shutil.copy(source, target)
    b[0].write_text("garbage")
    faults = tls.reload()
    assert len(faults) == 1
    assert "b.test" in str(faults[0])
    async with serving(hello, tls=tls) as it:
        assert (await serial(it, "a.test"))[1] == serial_of(new[0])
        assert (await serial(it, "b.test"))[1] == old_b


async def test_the_chain_is_sent_with_the_certificate(tmp_path: Path) -> None:
    leaf, issuer = self_signed(["leaf.test"], tmp_path / "leaf"), self_signed(["ca.test"], tmp_path / "ca")
    tls = TlsContexts()
    tls.replace("*", *leaf, chain_path=issuer[0])
    async with serving(hello, tls=tls) as it:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # TLS 1.2 sends the certificates in the clear.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        tcp = await trio.open_tcp_stream("127.0.0.1", it.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        shaking = context.wrap_bio(incoming, outgoing, server_hostname="leaf.test")
        with pytest.raises(ssl.SSLWantReadError):
            shaking.do_handshake()
        await tcp.send_all(outgoing.read())
        flight = b""
        der = x509.load_pem_x509_certificate(issuer[0].read_bytes()).public_bytes(serialization.Encoding.DER)
        with trio.fail_after(2):
            while der not in flight:
                flight += await tcp.receive_some(65536)
        await tcp.aclose()


async def test_silent_handshakes_hold_nobody_up_and_end(tmp_path: Path) -> None:
    tls = TlsContexts()
    tls.replace("*", *self_signed(["localhost"], tmp_path))
    limits = Limits(handshake_timeout=0.5, handshakes=2, sweep_interval=0.02)
    async with serving(hello, tls=tls, limits=limits) as it:
        silent = [await it.connect() for _ in range(20)]
        for client in silent[:10]:
            await client.send(b"\x16\x03\x01")
        with trio.fail_after(0.4):
            assert (await (await it.connect_tls("localhost")).get()).body == b"hello"
        with trio.fail_after(3):
            for client in silent:
                await client.read_all()


async def test_many_handshakes_at_once_all_succeed(tmp_path: Path) -> None:
    tls = TlsContexts()
    tls.replace("*", *self_signed(["localhost"], tmp_path))
    answers = []

    async with serving(hello, tls=tls) as it:

        async def one() -> None:
            answers.append((await (await it.connect_tls("localhost")).get()).status)

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(one)
    assert answers == [200] * 60


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05abcde", b"\0" * 100, b""])
async def test_what_is_no_handshake_is_closed(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    tls = TlsContexts()
    tls.replace("*", *self_signed(["localhost"], tmp_path))
    async with serving(hello, tls=tls) as it:
        client = await it.connect()
        if data:
            await client.send(data)
            with trio.fail_after(2):
                await client.read_all()
        await client.close()
        await until(lambda: it.server.connections == 0)
    assert caplog.text == ""


def test_self_signed_is_p256_private_and_kept(tmp_path: Path) -> None:
    cert, key = self_signed(["box.local", "192.0.2.1", "::1"], tmp_path / "tls")
    certificate = x509.load_pem_x509_certificate(cert.read_bytes())
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    before = cert.read_bytes()
    assert self_signed(["box.local", "192.0.2.1", "::1"], tmp_path / "tls") == (cert, key)
    assert cert.read_bytes() == before
    self_signed(["other.local"], tmp_path / "tls")
    assert cert.read_bytes() != before
    key.write_text("lost")
    self_signed(["other.local"], tmp_path / "tls")
    TlsContexts().replace("*", cert, key)
