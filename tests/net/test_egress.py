"""What URLs from outside may reach: a corpus of tricks, none of which gets out."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from appliance.errors import BadRequest, Unavailable
from appliance.net.egress import AddressRefused, AddressRules, Egress, parse_url
from appliance.net.egress.addresses import is_own, literal
from appliance.net.egress.guard import ALLOW_VARIABLE

SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "srt", "tcp", "udp")
OWN = ip_address("192.0.2.10")

#: Spellings of hosts that lead to this machine, to its own address 192.0.2.10, to metadata, or to nowhere good.
LOOPBACK = """
127.0.0.1 127.0.0.1. 127.1 127.0.1 127.255.255.254 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1 0177.0.0.1 017700000001
0177.0.0x1 127.0x0.0.1 127.000.000.001 00000177.0.0.1 0x7f.0x0.0x0.0x1 127.0.0.1.. 2130706434 127.127 [::1]
[0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::0001] [::ffff:127.0.0.1] [::ffff:7f00:1]
[0:0:0:0:0:ffff:127.0.0.1] [::ffff:127.1.2.3] [::127.0.0.1] [::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b:1::127.0.0.1] [2002:7f00:1::] [2002:7f00:0001::1] [2001:0:7f00:1::] [2001:0:0:0:0:0:80ff:fffe]
[fe80::5efe:127.0.0.1] [2001:db8::5efe:7f00:1] [2001:db8::200:5efe:127.0.0.1] [::ffff:0:127.0.0.1] localhost
LOCALHOST localhost. a.localhost a.b.LocalHost localhost.. loc\u200balhost ⓛⓞⓒⓐⓛⓗⓞⓢⓣ localhost\uff0e ①②⑦.⓪.⓪.①
127\u30020\u30020\u30021 １２７.０.０.１ 127\uff0e0\uff0e0\uff0e1 127.0.0.1%20 127.0.0.1%00 %31%32%37.0.0.1
"""
ELSEWHERE = """
0.0.0.0 0 0x0 00 0.1 [::] [0::0] [::ffff:0.0.0.0] 0.0.0.0. 0.255.255.255 169.254.169.254 169.254.169.254. 2852039166
0xa9fea9fe 0251.0376.0251.0376 169.16689662 [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [64:ff9b::169.254.169.254]
[64:ff9b::a9fe:a9fe] [2002:a9fe:a9fe::] [fd00:ec2::254] [fd00:0ec2:0:0:0:0:0:254] [fd20:ce::254] 169.254.170.2
100.100.100.200 168.63.129.16 192.0.0.192 169.254.1.1 [fe80::1] [fe80::1%25eth0] [fe80::1%eth0] [febf::1]
[FE80:0::A] 224.0.0.1 239.1.2.3 239.255.255.250 255.255.255.255 240.0.0.1 0xffffffff 4294967295 [ff02::1] [ff02::fb]
[ff05::2] [::ffff:224.0.0.1] 192.0.2.10 3221225994 0xc000020a 0300.0.2.10 192.0.522 [::ffff:192.0.2.10]
[::ffff:c000:20a] [64:ff9b::c000:20a] [2002:c000:20a::1]
"""
#: Names, and what the (hostile) name server says they are.
NAMES = {
    "one.example": ["127.0.0.1"], "six.example": ["::1"], "mapped.example": ["::ffff:127.0.0.1"],
    "meta.example": ["169.254.169.254"], "own.example": ["192.0.2.10"], "nat.example": ["64:ff9b::7f00:1"],
    "zero.example": ["0.0.0.0"], "link.example": ["fe80::1%2"], "group.example": ["239.0.0.1"],
    "mixed.example": ["127.0.0.1", "203.0.113.5", "::1"], "six4.example": ["2002:7f00:1::"],
    "ec2.example": ["fd00:ec2::254"], "127.0.0.1.nip.example": ["127.0.0.1"], "junk.example": ["not an address"],
    "localtest.example": ["127.0.0.1", "127.0.0.2"], "many.example": ["10.0.0.1", "169.254.169.254", "203.0.113.5"],
}  # fmt: skip
#: Whole URLs that two programs would read in two ways, or that carry more than a URL.
CROOKED = [
    "http://good.example@127.0.0.1/", "http://127.0.0.1@good.example:80@127.0.0.1/",
    "http://good.example\\@127.0.0.1/", "http://good.example#@127.0.0.1/x", "http://good.example?@127.0.0.1/",
    "http://127.0.0.1#@good.example/", "http://127.0.0.1?@good.example/", "http://user:pass@@127.0.0.1/",
    "http://[::1]@good.example:99999/", "http://good.example:80:127.0.0.1/", "http://good.example:@127.0.0.1/",
    "http://:@127.0.0.1/", "http://@127.0.0.1/", "http://good.example:80@127.0.0.1:80/",
    "http://good.example%40127.0.0.1/", "http://good.example%2f@127.0.0.1/", "http://127.0.0.1:80/@good.example",
    "http://[::1]good.example/", "http://[::1].good.example/", "http://[::1/", "http://::1]/", "http://::1/",
    "http://[::1]:/", "http://[[::1]]/", "http://[127.0.0.1]/", "http://[good.example]/",
    "http://good.example\r\nHost: 127.0.0.1/", "http://good.example/\r\nX: y", "http://good.example/ HTTP/1.1\r\n\r\n",
    "http://good.example/%0d%0aX:y", "http://good.example/%0D%0ASET%20a", "http://good.example%0d%0a/",
    "http://good.example/%00", "http://good.example\t/", " http://good.example/", "http://good.example/\n",
    "http://good\x00.example/", "http://good.example\u2028/", "http://good.example\u0085/", "http://\u202e127.0.0.1/",
    "http://good.example /", "http:/127.0.0.1/", "http:127.0.0.1", "http:///127.0.0.1/", "http:////127.0.0.1",
    "//127.0.0.1/", "127.0.0.1", "", "http://", "http:///", "http://:80/", "http://?x", "http://#x", "http://./",
    "http://../", "http://.127.0.0.1/", "file:///etc/passwd", "FILE:///etc/passwd", "gopher://127.0.0.1:6379/_SET",
    "dict://127.0.0.1:11211/", "ftp://127.0.0.1/", "unix:///run/kiln.sock", "data:text/plain,x", "javascript:alert(1)",
    "jar:http://127.0.0.1!/", "ldap://127.0.0.1/", "concat:http://127.0.0.1",
    "subfile,,start,0,end,9,,:http://127.0.0.1", "crypto+http://127.0.0.1/", "hls+http://127.0.0.1/",
    "http://good.example:0/", "http://good.example:65536/", "http://good.example:-1/", "http://good.example:+80/",
    "http://good.example:80a/", "http://good.example:8 0/", "http://good.example:٨٠/", "http://good.example:/",
    "http://good.example:0x50/", "http://good.example:80,443/", "http://good.example:99999999999999999999/",
    "http://good..example/", "http://-good.example/", "http://good.example-/", "http://go_od!.example/",
    "http://*.example/", "http://good.example,127.0.0.1/", "http://good.example;127.0.0.1/",
    "http://good.example|127.0.0.1/", "http://{x}/", "http://good.example`id`/", "http://$(id).example/",
    'http://good.example"/', "http://<good.example>/", "http://a^b/", "http://" + "a" * 300 + ".example/",
    "http://good.example/" + "a" * 5000, "http://256.256.256.256/", "http://1.2.3.4.5/", "http://0x7f.0.0.0.1/",
    "http://127.0.0.1:80\\@good.example/", "http://user%0a:x@good.example/", "http://us er@good.example/",
]  # fmt: skip
#: Crooked, and yet each program reads the same in it: the guard may let it go to good.example and nowhere else.
READ_ALIKE = {
    "http://good.example#@127.0.0.1/x", "http://good.example?@127.0.0.1/",
}  # fmt: skip


async def hostile_names(host: str) -> Sequence[str]:
    host = host.rstrip(".")
    if host in NAMES:
        return NAMES[host]
    if host == "good.example":
        return ["203.0.113.5"]
    # What the system's own resolver takes for an address in some spelling, it would give as one.
    try:
        return [socket.inet_ntoa(socket.inet_aton(host))]
    except OSError:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None


def guard(*allow: str) -> Egress:
    return Egress(look_up=hostile_names, rules=AddressRules(allow, own=lambda address: address == OWN))


def corpus() -> list[str]:
    hosts = (*LOOPBACK.split(), *ELSEWHERE.split())
    # A group is no trick where datagrams are sent.
    schemes = [scheme for scheme in SCHEMES if scheme != "udp"]
    urls = [f"{scheme}://{host}:8080/x" for scheme, host in zip(schemes * 40, hosts, strict=False)]
    urls += [f"https://{name}/hook" for name in NAMES]
    return urls + CROOKED


def test_the_corpus_is_large_enough() -> None:
    assert len(set(corpus())) >= 200


@pytest.mark.parametrize("url", corpus())
async def test_no_trick_gets_out(url: str) -> None:
    egress = guard()
    reached: list[tuple[str, int]] = []
    with suppress(BadRequest, Unavailable):
        parts = egress.check_url(url, SCHEMES)
        reached = await egress.resolve(parts.host, parts.port or 80)
    allowed = {"10.0.0.1", "203.0.113.5"} if "mixed" in url or "many" in url or url in READ_ALIKE else set()
    assert {address for address, _ in reached} <= allowed


async def test_an_address_in_the_url_is_refused_before_anything_is_looked_up() -> None:
    async def never(host: str) -> Sequence[str]:
        raise AssertionError(host)

    egress = Egress(look_up=never, rules=AddressRules(own=lambda address: address == OWN))
    for host in ("127.0.0.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "192.0.2.10", "169.254.1.2"):
        with pytest.raises(AddressRefused, match="may not be reached"):
            egress.check_url(f"rtmp://{host}/live", ("rtmp",))
    assert await egress.resolve("198.51.100.7", 1935) == [("198.51.100.7", 1935)]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("rtmp://a.example/live", ("rtmp", "a.example", 1935, "/live", "", "")),
        ("RTMPS://A.Example:444/live/?k=1&b=%2F", ("rtmps", "a.example", 444, "/live/", "k=1&b=%2F", "")),
        ("rtsp://cam:p%40ss@192.168.1.20/Streaming/101", ("rtsp", "192.168.1.20", 554, "/Streaming/101", "", "cam")),
        ("srt://[2001:db8::7]:9000?streamid=#!::r=x", ("srt", "2001:db8::7", 9000, "", "streamid=#!::r=x", "")),
        ("udp://239.1.2.3:5000?ttl=4", ("udp", "239.1.2.3", 5000, "", "ttl=4", "")),
        ("http://bücher.example/#top", ("http", "xn--bcher-kva.example", 80, "/", "", "")),
        ("tcp://box_1.local:9", ("tcp", "box_1.local", 9, "", "", "")),
    ],
)  # fmt: skip
def test_what_is_straight_is_taken_apart(url: str, parts: tuple[object, ...]) -> None:
    found = guard().check_url(url, SCHEMES)
    assert (found.scheme, found.host, found.port, found.path, found.query, found.user) == parts
    assert "p@ss" not in str(found)
    assert "cam" not in str(found)


@given(st.text(max_size=40), st.sampled_from(["", "http://", "rtmp://a@", "http://[", "srt://h:"]))
def test_anything_is_a_url_or_a_bad_request(text: str, head: str) -> None:
    try:
        found = parse_url(head + text, SCHEMES)
    except BadRequest:
        return
    assert found.host
    assert found.host.isascii()
    assert found.host.isprintable()


@given(st.integers(0, 2**32 - 1))
def test_every_wrapping_of_an_ipv4_address_is_judged_like_it(number: int) -> None:
    rules = AddressRules(own=lambda address: False)
    plain = rules.refusal(IPv4Address(number))
    for wrapped in (0xFFFF << 32 | number, int(IPv6Address("64:ff9b::")) | number, 0x2002 << 112 | number << 80):
        assert bool(rules.refusal(IPv6Address(wrapped))) >= bool(plain)


def test_the_own_address_is_known() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("203.0.113.9"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("203.0.113.9", 9))
        except OSError:
            pytest.skip("no network at all")
        own = ip_address(sock.getsockname()[0])
    assert "address of this machine" in AddressRules().refusal(own)


def test_the_operator_opens_networks() -> None:
    alarms: dict[str, str] = {}
    egress = Egress.configured(["::1"], {ALLOW_VARIABLE: "127.0.0.0/8, nonsense,"}, alarms)
    assert egress.check_url("http://127.0.0.1:1/", SCHEMES).port == 1
    assert egress.check_url("http://[::1]/", SCHEMES).host == "::1"
    assert egress.check_url("http://[::ffff:127.0.0.1]/", SCHEMES).port == 80
    assert list(alarms) == ["egress:nonsense"]
    with pytest.raises(AddressRefused, match="link-local"):
        egress.check_url("http://169.254.3.4/", SCHEMES)
    with pytest.raises(ValueError, match="nonsense"):
        Egress(["nonsense"])


async def test_groups_are_for_datagrams_alone() -> None:
    egress = guard()
    assert egress.check_url("udp://239.1.2.3:1", SCHEMES).host == "239.1.2.3"
    assert await egress.resolve("239.1.2.3", 1, multicast=True) == [("239.1.2.3", 1)]
    with pytest.raises(AddressRefused, match="multicast"):
        egress.check_url("tcp://239.1.2.3:1", SCHEMES)
    with pytest.raises(AddressRefused, match="multicast"):
        await egress.resolve("group.example", 1)
    with pytest.raises(AddressRefused, match="multicast"):
        egress.check_url("udp://[ff01::1]:1", SCHEMES)


class Names:
    """A name server that can be told what to say."""

    def __init__(self, *answers: Sequence[str] | OSError | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, OSError):
            raise answer
        assert answer is not None
        return answer


async def test_a_name_that_is_bound_anew_between_two_connections_is_checked_each_time() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.2")
    port = listener.socket.getsockname()[1]
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with listener:
        egress = Egress(["127.0.0.2"], look_up=names)
        stream = await egress.open_tcp("rebind.example", port, 2)
        assert stream.socket.getpeername() == ("127.0.0.2", port)
        assert names.asked == 1
        await stream.aclose()
        with pytest.raises(AddressRefused, match="this machine"):
            await egress.open_tcp("rebind.example", port, 2)


async def test_the_first_address_that_answers_is_taken() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.3")
    port = listener.socket.getsockname()[1]
    async with listener:
        egress = Egress(["127.0.0.0/8"], look_up=Names(["127.0.0.2", "127.0.0.3"]))
        stream = await egress.open_tcp("two.example", port, 2)
        assert stream.socket.getpeername()[0] == "127.0.0.3"
        await stream.aclose()
    with pytest.raises(Unavailable, match="refuses the connection"):
        await egress.open_tcp("two.example", port, 2)


async def test_the_last_good_address_serves_while_no_name_server_answers(autojump_clock: MockClock) -> None:
    down = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    gone = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    egress = Egress(look_up=Names(["203.0.113.5"], down, None, [], gone))
    for _ in range(4):
        assert await egress.resolve("cdn.example", 443) == [("203.0.113.5", 443)]
    with pytest.raises(Unavailable, match="not known"):
        await egress.resolve("cdn.example", 443)
    with pytest.raises(Unavailable, match="no answer in 5 s"):
        await Egress(look_up=Names(None)).resolve("cdn.example", 443)


async def test_a_connection_that_nobody_answers_ends_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            assert other.connect_ex(full.getsockname()) in (0, errno.EINPROGRESS)
        began = trio.current_time()
        with pytest.raises(Unavailable, match=r"does not answer in 0.2 s"):
            await Egress(["127.0.0.0/8"]).open_tcp("127.0.0.1", full.getsockname()[1], 0.2)
        assert trio.current_time() - began < 1
        for other in others:
            other.close()


async def test_http_is_checked_at_each_redirect() -> None:
    where: list[str] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            asked = bytes(await stream.receive_some(4096)).split(b" ")[1].decode()
            where.append(asked)
            target = {"/in": f"http://127.0.0.2:{port}/secret", "/loop": "/loop"}.get(asked)
            head = f"302 Found\r\nLocation: {target}" if target else "200 OK"
            await stream.send_all(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="0.0.0.0")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        egress = Egress(["127.0.0.1"], look_up=Names(["127.0.0.1"]))
        async with egress.http_client(redirects=True, timeout=2) as client:
            assert (await client.get(f"http://hook.example:{port}/x")).status_code == 200
            with pytest.raises(AddressRefused):
                await client.get(f"http://hook.example:{port}/in")
            with pytest.raises(httpx.TooManyRedirects):
                await client.get(f"http://hook.example:{port}/loop")
        nursery.cancel_scope.cancel()
    assert where == ["/x", "/in", "/loop", "/loop", "/loop", "/loop"]


@given(st.text(alphabet="0123456789abcdefxX.", min_size=1, max_size=20))
def test_whatever_the_system_takes_for_an_address_is_known_as_one(text: str) -> None:
    try:
        number = socket.inet_aton(text)
    except OSError:
        return
    assert literal(text) == IPv4Address(number)
