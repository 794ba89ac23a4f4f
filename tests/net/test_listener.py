"""Binding: what can be listened on, and how a refusal reads."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from appliance.errors import KilnError
from appliance.net.listener import Listener, bind_listeners
from appliance.net.tls import TlsContexts


def test_star_and_double_colon_share_a_port() -> None:
    four = Listener.tcp("*", 0)
    four.bind()
    six = Listener.tcp("::", four.port)
    six.bind()
    try:
        assert four.sock.getsockname()[0] == "0.0.0.0"
        assert six.sock.getsockname()[0] == "::"
        assert four.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    finally:
        four.close()
        six.close()


def test_a_port_in_use_names_port_and_reason_and_nothing_stays_bound() -> None:
    taken = Listener.tcp("127.0.0.1", 0)
    taken.bind()
    free = Listener.tcp("127.0.0.1", 0)
    clash = Listener.tls("127.0.0.1", taken.port, TlsContexts())
    try:
        with pytest.raises(KilnError, match=rf"tls://127\.0\.0\.1:{taken.port}: the address is in use") as caught:
            bind_listeners([free, clash])
        assert caught.value.hint
        assert not free.bound
    finally:
        taken.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(KilnError, match=host):
        bind_listeners([Listener.tcp(host, 0)])


def test_unix_socket_has_its_mode_and_goes_with_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "box.sock"
    listener = Listener.unix(path)
    old = os.umask(0o077)
    try:
        listener.bind()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listener.close()
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced_and_a_live_one_not(tmp_path: Path) -> None:
    path = tmp_path / "box.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = Listener.unix(path)
    listener.bind()
    with pytest.raises(KilnError, match="in use"):
        Listener.unix(path).bind()
    assert path.exists()
    listener.close()


def test_a_file_is_never_removed_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(KilnError, match="precious"):
        Listener.unix(path).bind()
    assert path.read_text() == "data"


def test_closing_leaves_a_successors_socket_alone(tmp_path: Path) -> None:
    path = tmp_path / "box.sock"
    first = Listener.unix(path)
    first.bind()
    path.unlink()
    second = Listener.unix(path)
    second.bind()
    first.close()
    assert path.exists()
    second.close()
