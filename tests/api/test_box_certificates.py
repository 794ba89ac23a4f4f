"""Certificates over the API: uploaded, checked, assigned, watched; a bad one changes nothing."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.engine.certificates import Certificates
from appliance.net.certificate import read_file
from tests.api.box import Box, open_box

PATH = "/box/v1/certificates"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
#: The clock of the box in these tests.
NOW = datetime.datetime.fromtimestamp(1_795_001_000, datetime.UTC)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(
    subject: str = "tv.example", issuer: str = "CA", *, days: float = 90, begins: float = -1,
    key: ec.EllipticCurvePrivateKey = KEY,
) -> str:  # fmt: skip
    made = (
        x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
        .public_key(key.public_key()).serial_number(7)
        .not_valid_before(NOW + datetime.timedelta(days=begins)).not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        .sign(OTHER, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(serialization.Encoding.PEM).decode()


def private(key: ec.EllipticCurvePrivateKey = KEY, password: bytes = b"") -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    """With its TLS ports' certificates, as when it is on the air."""
    async with open_box(tmp_path, seed=True) as made:
        made.engine.certificates = Certificates(made.engine.settings, tmp_path / "tls", [])
        yield made


async def upload(box: Box, id: str = "mine", **values: Any) -> Any:
    body = {"name": id, "certificate": certificate(), "key": private(), **values}
    return await box.ask("POST", PATH, body=body)


async def test_the_box_has_one_of_its_own(box: Box) -> None:
    listed = (await box.ask("GET", PATH)).json()["response"]
    (own,) = [each for each in listed if each["id"] == "self_signed"]
    assert own["selfSigned"] is True
    assert "localhost" in own["names"]
    assert {each["port"] for each in own["shown"]} == {"api", "delivery"}
    assert (await box.ask("DELETE", f"{PATH}/self_signed")).status_code == 409


async def test_one_is_uploaded_assigned_replaced_and_deleted(box: Box, tmp_path: Path) -> None:
    made = await upload(box, chain=certificate("CA", "Root"))
    assert made.status_code == 201, made.text
    assert made.json()["response"]["chain"] == ["CN=CA"]
    file = tmp_path / "tls" / "mine.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await box.ask("POST", f"{PATH}/mine:assign", body={"managers": True})).status_code == 200
    certificates = box.engine.certificates
    assert certificates is not None
    shown = certificates.api.default
    told = (await box.ask("GET", f"{PATH}/mine")).json()["response"]
    assert told["usedBy"] == ["managers"]
    assert told["shown"] == [{"host": "*", "port": "api"}]
    assert (await box.ask("DELETE", f"{PATH}/mine")).status_code == 409
    assert (await upload(box, certificate=certificate("new.example"))).status_code == 201
    assert certificates.api.default is not shown
    assert (await box.ask("POST", f"{PATH}/self_signed:assign", body={"managers": True})).status_code == 200
    assert (await box.ask("DELETE", f"{PATH}/mine")).status_code == 200
    assert (await box.ask("GET", f"{PATH}/mine")).status_code == 404
    assert not file.exists()


async def test_a_virtual_host_shows_one(box: Box) -> None:
    await upload(box)
    vhost = next(iter(box.engine.directory.vhosts))
    assert (await box.ask("POST", f"{PATH}/mine:assign", body={"vhost": vhost})).status_code == 200
    told = (await box.ask("GET", f"{PATH}/mine")).json()["response"]
    assert told["usedBy"] == [f"vhost:{vhost}"]
    assert {each["port"] for each in told["shown"]} == {"delivery"}


@pytest.mark.parametrize(("values", "reason"), [
    ({"key": private(OTHER)}, "not that of the certificate"),
    ({"key": private(password=b"secret")}, "encrypted"),
    ({"key": ""}, "no private key"),
    ({"key": private() * 2}, "more than one"),
    ({"certificate": "nothing"}, "no certificate"),
    ({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "can't be read"),
    ({"certificate": certificate() * 17}, "more than 16"),
    ({"certificate": certificate(days=-1, begins=-9)}, "has expired"),
    ({"chain": certificate("Other", "Root")}, "was issued by"),
    ({"certificate": "x" * 300_000}, "at most"),
    ({"certificate": 1}, "must be a string"), ({"key": None}, "must be a string"), ({"chain": []}, "must be a string"),
    ({"name": "../x"}, ""), ({"name": "self_signed"}, "by itself"),
    ({"name": 1}, "must be a string"), ({"foo": 1}, "foo"),
])  # fmt: skip
async def test_what_is_refused(box: Box, tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    before = sorted(path.name for path in (tmp_path / "tls").iterdir())
    answer = await upload(box, **values)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["message"]
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == before


async def test_a_check_keeps_nothing(box: Box, tmp_path: Path) -> None:
    body = {"certificate": certificate(days=5, begins=1), "key": private()}
    told = (await box.ask("POST", f"{PATH}:check", body=body)).json()["response"]
    assert len(told["warnings"]) == 2
    assert not list((tmp_path / "tls").glob("*.pem"))


async def test_one_is_made(box: Box) -> None:
    body = {"name": "made", "names": ["a.example", "10.0.0.1"]}
    answer = await box.ask("POST", f"{PATH}:selfSigned", body=body)
    assert answer.json()["response"]["names"] == ["a.example", "10.0.0.1"]


@pytest.mark.parametrize("body", [{}, {"name": "a", "names": 1}, {"name": "a", "names": ["-x"]}, {"name": "/"},
                                  {"name": "a", "names": [""]},
                                  {"name": "a", "names": ["a b"]}, [], 1])  # fmt: skip
async def test_what_can_not_be_made(box: Box, body: Any) -> None:
    assert (await box.ask("POST", f"{PATH}:selfSigned", body=body)).status_code == 400


@pytest.mark.parametrize(("body", "status"), [
    ({}, 400), ({"vhost": "none"}, 404), ({"vhost": 1}, 400), ({"managers": False}, 400),
    ({"vhost": "default", "managers": True}, 400), ([], 400),
])  # fmt: skip
async def test_what_can_not_be_assigned(box: Box, body: Any, status: int) -> None:
    assert (await box.ask("POST", f"{PATH}/self_signed:assign", body=body)).status_code == status
    assert (await box.ask("POST", f"{PATH}/none:assign", body={"managers": True})).status_code == 404


async def test_an_alarm_before_the_end_and_after_it(box: Box) -> None:
    await upload(box, certificate=certificate(days=20))
    await box.ask("POST", f"{PATH}/mine:assign", body={"managers": True})
    await box.engine.certificate_store.watch()
    (alarm,) = [alarm for alarm in box.engine.alarms.open if alarm.id.startswith("certificate:expiry")]
    assert alarm.severity == "warning"
    assert "20 days" in alarm.text
    box.time.now += 21 * 86400 * 1_000_000_000
    await box.engine.certificate_store.watch()
    (alarm,) = [alarm for alarm in box.engine.alarms.open if alarm.id.startswith("certificate:expiry")]
    assert alarm.severity == "error"
    await box.ask("POST", f"{PATH}/self_signed:assign", body={"managers": True})
    await box.engine.certificate_store.watch()
    assert not [id for id in box.engine.alarms if id.startswith("certificate:expiry")]


async def test_a_new_address_renews_the_own_one(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "tls" / "self_signed.crt"
    before = read_file(own)[0]
    await box.engine.certificate_store.watch()
    assert read_file(own)[0] == before
    monkeypatch.setattr("appliance.engine.certificates.own_names", lambda: ["localhost", "192.0.2.77"])
    await box.engine.certificate_store.watch()
    assert read_file(own)[0].names == ("localhost", "192.0.2.77")
