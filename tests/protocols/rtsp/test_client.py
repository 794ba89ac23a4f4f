"""The RTSP client against what servers answer, by hand."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest, RemoteProtocolError
from appliance.protocols.rtsp.client import (
    Described,
    Event,
    MediaData,
    Playing,
    Refused,
    RtspClient,
    SetUp,
    split_url,
)  # fmt: skip

URL = "rtsp://anna:s%40cret@192.0.2.5:8554/live?x=1"
BODY = b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t1\r\nm=audio 0 RTP/AVP 0\r\na=control:t2\r\n"


class Server:
    """Answers the client's last request; ``requests`` are (method, url, headers by lower-case name)."""

    def __init__(self, url: str = URL) -> None:
        self.client = RtspClient(url, nonce=lambda: "0a4f113b")
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.client.start()
        self.listen()

    def listen(self) -> None:
        for head in self.client.data_to_send().decode().split("\r\n\r\n"):
            if head:
                first, *lines = head.split("\r\n")
                method, url, version = first.split(" ")
                assert version == "RTSP/1.0"
                self.requests.append((method, url, {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}))

    def answer(self, status: str, headers: Iterable[str] = (), body: bytes = b"") -> list[Event]:
        sequence = self.requests[-1][2]["cseq"]
        lines = [f"RTSP/1.0 {status}", f"CSeq: {sequence}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        events = list(self.client.receive_data("\r\n".join([*lines, "", ""]).encode() + body))
        self.listen()
        return events


def playing(server: Server) -> list[Event]:
    (described,) = server.answer("200 OK", ["Content-Base: rtsp://192.0.2.5:8554/live/"], BODY)
    assert isinstance(described, Described)
    server.client.set_up(described.description.media)
    server.listen()
    transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1F"
    events = server.answer("200 OK", ["Session: 77;timeout=20", transport])
    events += server.answer("200 OK", ["Session: 77", "Transport: RTP/AVP/TCP;unicast;interleaved=2-3"])
    info = "RTP-Info: url=rtsp://192.0.2.5:8554/live/t1;seq=5;rtptime=90000, url=t2;rtptime=8000,url=t3;rtptime=x"
    return events + server.answer("200 OK", ["Session: 77", info])


def test_from_description_to_play() -> None:
    server = Server()
    first, second, play = playing(server)
    assert isinstance(first, SetUp)
    assert (first.channels, first.ssrc, first.media.encoding) == ((0, 1), 0x1F, "H264")
    assert isinstance(second, SetUp)
    assert (second.channels, second.media.encoding) == ((2, 3), "PCMU")
    assert play == Playing(10.0, {"rtsp://192.0.2.5:8554/live/t1": 90_000, "rtsp://192.0.2.5:8554/live/t2": 8000})
    assert [(method, url) for method, url, _ in server.requests] == [
        ("DESCRIBE", "rtsp://192.0.2.5:8554/live?x=1"), ("SETUP", "rtsp://192.0.2.5:8554/live/t1"),
        ("SETUP", "rtsp://192.0.2.5:8554/live/t2"), ("PLAY", "rtsp://192.0.2.5:8554/live/"),
    ]  # fmt: skip
    assert server.requests[-1][2]["session"] == "77"
    assert "authorization" not in server.requests[-1][2]
    server.client.tear_down()
    server.listen()
    assert server.requests[-1][0] == "TEARDOWN"


def test_packets_between_answers() -> None:
    server = Server()
    playing(server)
    events = list(server.client.receive_data(b"$\x00\x00\x03abc$\x01\x00\x01d"))
    assert events == [MediaData(0, b"abc"), MediaData(1, b"d")]


def test_the_digest_of_the_rfc_and_a_fresh_nonce_later_on() -> None:
    server = Server("rtsp://Mufasa:Circle%20of%20Life@host/dir")
    challenge = 'WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth,auth-int", opaque="o"'
    server.answer("401 Unauthorized", [challenge])
    first = server.requests[-1][2]["authorization"]
    assert re.search(r'username="Mufasa".*nonce="n1".*qop=auth, nc=00000001, cnonce="0a4f113b".*opaque="o"', first)
    server.answer("200 OK", [], BODY)
    server.client.keep_alive()
    server.listen()
    assert server.requests[-1][0] == "GET_PARAMETER"
    assert "nc=00000002" in server.requests[-1][2]["authorization"]
    server.answer("401 Unauthorized", ['WWW-Authenticate: Digest realm="r", nonce="n2", stale=true'])
    assert 'nonce="n2"' in server.requests[-1][2]["authorization"]
    server.answer("200 OK")


def test_the_example_of_the_rfc() -> None:
    from appliance.protocols.rtsp.credentials import Credentials

    mufasa = Credentials("Mufasa", "Circle of Life", lambda: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    assert mufasa.challenged(
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="{nonce}"'
    )
    expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    assert f'response="{expected}"' in mufasa.header("GET", "/dir/index.html")


def test_basic_is_answered_and_a_wrong_password_is_the_end() -> None:
    server = Server()
    server.answer("401 Unauthorized", ['WWW-Authenticate: Basic realm="r"'])
    assert server.requests[-1][2]["authorization"] == "Basic YW5uYTpzQGNyZXQ="
    assert server.answer("401 Unauthorized", ['WWW-Authenticate: Basic realm="r"']) == [Refused(401, "Unauthorized")]


def test_without_credentials_a_401_is_the_end() -> None:
    server = Server("rtsp://192.0.2.5/live")
    assert server.answer("401 Unauthorized", ['WWW-Authenticate: Basic realm="r"']) == [Refused(401, "Unauthorized")]


def test_a_server_that_knows_no_get_parameter_is_asked_for_options() -> None:
    server = Server()
    playing(server)
    server.client.keep_alive()
    server.listen()
    assert server.answer("501 Not Implemented") == []
    server.client.keep_alive()
    server.listen()
    assert server.requests[-1][0] == "OPTIONS"


def test_udp_is_asked_for_and_its_refusal_says_that_tcp_may_help() -> None:
    server = Server()
    (described,) = server.answer("200 OK", [], BODY)
    assert isinstance(described, Described)
    server.client.set_up(described.description.media, [5000, 5002])
    server.listen()
    assert server.requests[-1][2]["transport"] == "RTP/AVP;unicast;client_port=5000-5001"
    transport = "Transport: RTP/AVP;unicast;server_port=6970-6971;source=192.0.2.6"
    (done,) = server.answer("200 OK", ["Session: 7", transport])
    assert isinstance(done, SetUp)
    assert (done.channels, done.server_ports, done.source) == (None, (6970, 6971), "192.0.2.6")
    assert server.answer("461 Unsupported transport") == [Refused(461, "Unsupported transport", tcp_may_help=True)]


def test_a_question_of_the_server_is_answered() -> None:
    server = Server()
    list(server.client.receive_data(b"OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 9\r\n\r\n"))
    assert server.client.data_to_send() == b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"\x00\x01\x02", b"RTSP/1.0 abc\r\n\r\n", b"RTSP/1.0 200 OK\r\nbroken\r\n\r\n",
     b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\n", b"RTSP/1.0 200 OK\r\nX: " + b"y" * 20_000,
     b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: -1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_rtsp_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(Server().client.receive_data(data))


def test_a_control_url_must_lead_back_to_the_server() -> None:
    server = Server()
    body = BODY.replace(b"control:t1", b"control:rtsp://198.51.100.1/t1")
    (described,) = server.answer("200 OK", [], body)
    assert isinstance(described, Described)
    with pytest.raises(RemoteProtocolError):
        server.client.set_up(described.description.media)


@pytest.mark.parametrize(
    "url", ["http://x/", "rtsp://", "rtsp://host:99999/x", "rtsp://ho st/x", "rtsp://h/x\r\ny", "rtsp://[x/"]
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(BadRequest):
        split_url(url)


def test_urls() -> None:
    assert split_url("rtsp://h") == ("h", 554, "rtsp://h/", "", "")
    assert split_url("RTSPC://u:p@[2001:db8::1]:1/a?b") == ("2001:db8::1", 1, "rtsp://[2001:db8::1]:1/a?b", "u", "p")


SESSION = (
    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: %d\r\n\r\n%b$\x00\x00\x02ab\r\n"
    b"OPTIONS * RTSP/1.0\r\nCSeq: 4\r\n\r\n$\x01\x00\x00" % (len(BODY), BODY)
)


@given(st.lists(st.integers(0, len(SESSION)), max_size=8))
def test_the_same_in_one_piece_and_in_many(cuts: list[int]) -> None:
    whole, pieces = Server().client, Server().client
    events = list(whole.receive_data(SESSION))
    edges = [0, *sorted(cuts), len(SESSION)]
    cut: list[Event] = []
    for begin, end in itertools.pairwise(edges):
        cut += pieces.receive_data(SESSION[begin:end])
    assert cut == events
    assert pieces.data_to_send() == whole.data_to_send()


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    client = Server().client
    try:
        list(client.receive_data(data))
    except RemoteProtocolError:
        pass
