"""Which certificate a TLS port shows, and that none keeps a port closed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.engine.certificates import Certificates, check_certificate
from appliance.errors import ConfigError
from appliance.net.tls import self_signed
from appliance.settings import models


def server(vhost: models.TLS | None, managers: models.TLS | None) -> models.Server:
    return models.Server(
        version=8,
        type="origin",
        ip=("*",),
        bind=models.Bind(),
        managers=models.Managers(host=models.ManagersHost(names=("*",), tls=managers)),
        virtual_hosts=(models.VirtualHost(name="tv", host=models.Host(names=("tv.example",), tls=vhost)),),
    )


def certificate(folder: Path, name: str) -> models.TLS:
    cert, key = self_signed([name], folder / name)
    return models.TLS(cert_path=str(cert), key_path=str(key))


def test_viewers_and_managers_see_their_own_certificates(tmp_path: Path) -> None:
    found = Certificates(server(certificate(tmp_path, "tv"), certificate(tmp_path, "api")), tmp_path / "state")
    assert found.refused == []
    assert found.delivery.hosts == ["*", "tv.example"]
    assert found.api.hosts == ["*"]
    assert (tmp_path / "state" / "self_signed.key").stat().st_mode & 0o777 == 0o600


def test_a_certificate_that_can_not_be_used_is_told_and_the_port_opens(tmp_path: Path) -> None:
    missing = models.TLS(cert_path=str(tmp_path / "none.pem"), key_path=str(tmp_path / "none.key"))
    found = Certificates(server(missing, None), tmp_path / "state")
    assert found.delivery.hosts == ["*"]
    assert "none.pem" in found.refused[0]


def test_a_state_folder_that_can_not_be_written_closes_no_port(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = Certificates(server(None, None), blocked / "tls")
    assert found.delivery.hosts == found.api.hosts == ["*"]


def test_a_reload_refuses_what_is_bad_and_keeps_the_old_one(tmp_path: Path) -> None:
    given = certificate(tmp_path, "tv")
    found = Certificates(server(given, None), tmp_path / "state")
    before = found.delivery.for_host("tv.example")
    shutil.copy(os.devnull, given.cert_path)
    (fault,) = found.reload()
    assert "tv.example" in str(fault)
    assert found.delivery.for_host("tv.example") is before



def test_a_virtual_host_comes_and_goes_with_its_certificate(tmp_path: Path) -> None:
    found = Certificates(server(None, None), tmp_path / "state")
    host = models.Host(names=("new.example", "*.new.example"), tls=certificate(tmp_path, "new"))
    assert found.add(host) == ""
    assert found.delivery.hosts == ["*", "*.new.example", "new.example"]
    found.remove(host)
    assert found.delivery.hosts == ["*"]


def test_without_the_default_ones_owner_the_self_signed_stands_in(tmp_path: Path) -> None:
    found = Certificates(server(None, None), tmp_path / "state")
    stand_in = found.delivery.default
    host = models.Host(tls=certificate(tmp_path, "any"))
    assert found.add(host) == ""
    assert found.delivery.default is not stand_in
    found.remove(host)
    assert found.delivery.hosts == ["*"]


def test_a_bad_certificate_is_told_and_the_old_one_is_kept(tmp_path: Path) -> None:
    found = Certificates(server(None, None), tmp_path / "state")
    tls = certificate(tmp_path, "new")
    host = models.Host(names=("new.example",), tls=tls)
    found.add(host)
    shown = found.delivery.for_host("new.example")
    Path(tls.cert_path).write_text("nothing")
    assert "new.example" in found.add(host)
    assert found.delivery.for_host("new.example") is shown
    with pytest.raises(ConfigError):
        check_certificate(host)
