"""One RTMP session from handshake to the end of the stream: our client against our server, and what peers do wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols import amf0
from appliance.protocols.amf0 import EcmaArray
from appliance.protocols.rtmp import (
    Audio,
    ClientEvent,
    ClientState,
    Connect,
    Data,
    Ended,
    Event,
    Metadata,
    PlayRefused,
    Publish,
    Refused,
    RtmpClient,
    RtmpServer,
    Started,
    State,
    Unpublish,
    Video,
)
from appliance.protocols.rtmp.chunks import ChunkReader, ChunkWriter, Message, control_message
from appliance.protocols.rtmp.handshake import ClientHandshake

Decide = Callable[[RtmpServer, Publish], None]


def accept(server: RtmpServer, _: Publish) -> None:
    server.accept_publish()


def feed(server: RtmpServer, data: bytes, decide: Decide = accept) -> list[Event]:
    """As the provider does it: answer a Publish at once, then go on with what lies behind it."""
    events = server.receive_data(data)
    total = list(events)
    while events and isinstance(events[-1], Publish):
        decide(server, events[-1])
        events = server.receive_data(b"")
        total += events
    return total


def talk(client: RtmpClient, server: RtmpServer, decide: Decide = accept) -> tuple[list[ClientEvent], list[Event]]:
    """Carry bytes both ways until both are silent."""
    told: list[ClientEvent] = []
    heard: list[Event] = []
    while True:
        up = client.data_to_send()
        if up:
            heard += feed(server, up, decide)
        down = server.data_to_send()
        if down:
            told += client.receive_data(down)
        if not up and not down:
            return told, heard


def connected(**options: object) -> tuple[RtmpClient, RtmpServer]:
    client = RtmpClient("rtmp://box:1935/app", "app", "cam?key=1", **options)  # type: ignore[arg-type]
    server = RtmpServer()
    told, _ = talk(client, server)
    assert told == [Started("NetStream.Publish.Start")]
    return client, server


class RawClient:
    """A peer that says exactly what a test wants, and understands what it is told."""

    def __init__(self, server: RtmpServer) -> None:
        self.server = server
        self.writer = ChunkWriter()
        self.reader: ChunkReader[Message] = ChunkReader(max_unfinished=1 << 20)
        shake = ClientHandshake(digest=False)
        server.receive_data(shake.data_to_send())
        shake.receive_data(server.data_to_send())
        server.receive_data(shake.data_to_send())

    def message(self, kind: int, body: bytes, stream: int = 0, time: int = 0) -> list[Event]:
        return feed(self.server, self.writer.message(3, kind, stream, time, body))

    def command(self, *values: object, stream: int = 0) -> list[Event]:
        return self.message(20, amf0.encode(*values), stream)

    def told(self) -> list[list[object]]:
        """The commands that the server sent."""
        messages = self.reader.receive_data(self.server.data_to_send())
        return [amf0.decode(message.body) for message in messages if message.type_id == 20]

    def publish(self, name: str = "cam") -> None:
        self.command("connect", 1, {"app": "app", "tcUrl": "rtmp://box/app"})
        self.command("createStream", 2, None)
        self.command("publish", 3, None, name, "live", stream=1)
        assert self.server.state is State.PUBLISHING


def test_a_publisher_from_connect_to_the_end() -> None:
    client = RtmpClient("rtmp://box:1935/app?token=2", "app", "cam?key=1")
    server = RtmpServer()
    told, heard = talk(client, server)
    assert told == [Started("NetStream.Publish.Start")]
    [connect, publish] = heard
    assert isinstance(connect, Connect)
    assert (connect.app, connect.tc_url, connect.four_ccs) == ("app", "rtmp://box:1935/app?token=2", ())
    assert isinstance(publish, Publish)
    address = publish.address
    assert (address.host, address.port, address.app, address.stream) == ("box", 1935, "app", "cam")
    assert address.query == "token=2&key=1"

    client.send_metadata({"width": 1280.0, "encoder": "x"})
    client.send_video(0, b"\x17\0video")
    client.send_audio(5, b"\xaf\0audio")
    client.send_data(7, "onTextData", EcmaArray(text="hello"))
    client.send_video(40, b"\x27" * 9000)
    _, heard = talk(client, server)
    assert heard == [
        Metadata(0, {"width": 1280.0, "encoder": "x"}),
        Video(0, b"\x17\0video"),
        Audio(5, b"\xaf\0audio"),
        Data(7, "onTextData", [{"text": "hello"}]),
        Video(40, b"\x27" * 9000),
    ]
    client.stop()
    _, heard = talk(client, server)
    assert heard == [Unpublish("FCUnpublish")]
    assert server.state is State.CONNECTED


@pytest.mark.parametrize("code", ["NetStream.Publish.BadName", "NetStream.Publish.Denied"])
def test_a_refused_publisher_is_told_why(code: str) -> None:
    client = RtmpClient("rtmp://box/app", "app", "cam")
    server = RtmpServer()
    told, _ = talk(client, server, lambda session, _: session.reject_publish(code, "because of that"))
    assert told == [Refused(code, "because of that")]
    assert client.state is ClientState.REFUSED
    assert server.refused
    assert server.receive_data(b"anything, it is not read any more") == []


def test_a_publisher_can_be_put_off_the_air() -> None:
    client, server = connected()
    server.end_publish("NetStream.Publish.Rejected", "nothing to carry")
    told, _ = talk(client, server)
    assert told == [Refused("NetStream.Publish.Rejected", "nothing to carry")]


def test_after_the_end_of_a_stream_the_connection_can_publish_again() -> None:
    raw = RawClient(RtmpServer())
    raw.publish("one")
    assert raw.command("deleteStream", 4, None, 1.0) == [Unpublish("deleteStream")]
    assert raw.message(9, b"\x17late", 1) == []
    [publish] = raw.command("publish", 5, None, "two", "live", stream=1)
    assert isinstance(publish, Publish)
    assert publish.address.stream == "two"
    assert raw.message(9, b"\x17", 1) == [Video(0, b"\x17")]


def test_what_the_server_answers() -> None:
    raw = RawClient(RtmpServer())
    raw.command("connect", 1, {"app": "app", "tcUrl": "rtmp://box/app", "objectEncoding": 3.0})
    [[name, transaction, properties, information]] = raw.told()
    assert (name, transaction) == ("_result", 1.0)
    assert isinstance(properties, dict)
    assert properties == {"fmsVer": "FMS/3,5,2,654", "capabilities": 31.0, "mode": 1.0}
    assert isinstance(information, dict)
    assert information["code"] == "NetConnection.Connect.Success"
    assert information["objectEncoding"] == 3.0
    raw.command("releaseStream", 2, None, "cam")
    assert raw.told() == []
    raw.command("FCPublish", 3, None, "cam")
    [[name, transaction, nothing, information]] = raw.told()
    assert (name, transaction, nothing) == ("onFCPublish", 0.0, None)
    raw.command("createStream", 4.5, None)
    assert raw.told() == [["_result", 4.5, None, 1.0]]
    raw.command("_checkbw", 5, None)
    raw.command("getStreamLength", 6, None, "cam")
    assert raw.told() == [["_result", 5.0, None], ["_result", 6.0, None, 0.0]]
    raw.command("somethingElse", 7, None)
    assert raw.told() == []
    raw.command("publish", 8, None, "cam", "live", stream=1)
    [[name, _, _, information]] = raw.told()
    assert name == "onStatus"
    assert isinstance(information, dict)
    assert (information["level"], information["code"]) == ("status", "NetStream.Publish.Start")
    assert information["description"] == "Publishing"


def test_enhanced_rtmp_is_announced_to_those_who_ask() -> None:
    client, _ = connected(four_ccs=("hvc1", "av01"))
    assert client.server_four_ccs == ("avc1", "hvc1", "av01", "vp09", "mp4a", "Opus")
    raw = RawClient(RtmpServer())
    [connect] = raw.command("connect", 1, {"app": "a", "tcUrl": "rtmp://b/a", "videoFourCcInfoMap": {"*": 4.0}})
    assert isinstance(connect, Connect)
    assert connect.four_ccs == ("*",)
    [[_, _, properties, _]] = raw.told()
    assert isinstance(properties, dict)
    assert properties["capsEx"] == 12.0
    assert properties["audioFourCcInfoMap"] == {"mp4a": 4.0, "Opus": 4.0}


def test_playing_is_refused_with_a_clear_word() -> None:
    client = RtmpClient("rtmp://box/app", "app", "cam", play=True)
    server = RtmpServer()
    told, heard = talk(client, server)
    assert heard[1:] == [PlayRefused("cam")]
    [refused] = told
    assert isinstance(refused, Refused)
    assert refused.code == "NetStream.Play.Failed"


def test_media_before_publish_is_left_out() -> None:
    raw = RawClient(RtmpServer())
    raw.command("connect", 1, {"app": "app", "tcUrl": "rtmp://box/app"})
    assert raw.message(9, b"\x17early") == []
    assert raw.message(18, amf0.encode("onMetaData", {})) == []


def test_much_before_publish_is_an_error() -> None:
    raw = RawClient(RtmpServer())
    with pytest.raises(RemoteProtocolError, match="at most 65536"):
        raw.message(9, bytes(70_000))


def test_publish_before_connect_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="before connect"):
        RawClient(RtmpServer()).command("publish", 1, None, "cam")


def test_a_second_publish_is_ignored_while_one_is_on() -> None:
    raw = RawClient(RtmpServer())
    raw.publish()
    assert raw.command("publish", 9, None, "other", stream=1) == []
    assert raw.message(9, b"\x17", 1) == [Video(0, b"\x17")]


def test_media_behind_publish_in_the_same_bytes_is_not_lost() -> None:
    raw = RawClient(RtmpServer())
    raw.command("connect", 1, {"app": "app", "tcUrl": "rtmp://box/app"})
    wire = raw.writer.message(3, 20, 1, 0, amf0.encode("publish", 2, None, "cam", "live"))
    wire += raw.writer.message(6, 9, 1, 0, bytes(100_000))
    events = feed(raw.server, wire)
    assert [type(event) for event in events] == [Publish, Video]


def test_nothing_is_read_while_a_publish_waits_for_its_answer() -> None:
    raw = RawClient(RtmpServer())
    raw.command("connect", 1, {"app": "app", "tcUrl": "rtmp://box/app"})
    [publish] = raw.server.receive_data(raw.writer.message(3, 20, 1, 0, amf0.encode("publish", 2, None, "cam")))
    assert isinstance(publish, Publish)
    with pytest.raises(RuntimeError, match="waiting"):
        raw.server.receive_data(b"x")
    raw.server.accept_publish()
    with pytest.raises(RuntimeError, match="not asked"):
        raw.server.accept_publish()
    with pytest.raises(RuntimeError, match="nothing was published"):
        RtmpServer().end_publish("NetStream.Publish.Rejected", "")


def test_commands_in_amf3_messages_are_understood() -> None:
    raw = RawClient(RtmpServer())
    body = b"\x00" + amf0.encode("connect", 1, {"app": "app", "tcUrl": "rtmp://box/app"})
    [connect] = raw.message(17, body)
    assert isinstance(connect, Connect)


def test_aggregates_are_taken_apart() -> None:
    raw = RawClient(RtmpServer())
    raw.publish()

    def part(kind: int, time: int, body: bytes) -> bytes:
        size = len(body).to_bytes(3, "big")
        return bytes([kind]) + size + time.to_bytes(3, "big") + b"\0" + bytes(3) + body + bytes(4)

    body = part(9, 100, b"\x17a") + part(8, 120, b"\xafb") + part(4, 130, b"??") + part(9, 140, b"\x27c")
    assert raw.message(22, body, 1, 5000) == [Video(5000, b"\x17a"), Audio(5020, b"\xafb"), Video(5040, b"\x27c")]
    with pytest.raises(RemoteProtocolError, match="aggregate"):
        raw.message(22, part(9, 0, b"\x17aaaa")[:-6], 1)


def test_pings_are_answered() -> None:
    raw = RawClient(RtmpServer())
    raw.server.data_to_send()
    feed(raw.server, control_message(4, b"\0\6" + b"when"))
    [answer] = raw.reader.receive_data(raw.server.data_to_send())
    assert (answer.type_id, answer.body) == (4, b"\0\7when")
    with pytest.raises(RemoteProtocolError, match="user control"):
        feed(raw.server, control_message(4, b"\0"))


def test_bytes_are_acknowledged_at_half_the_window() -> None:
    raw = RawClient(RtmpServer())
    raw.publish()
    raw.server.data_to_send()
    feed(raw.server, control_message(5, (40_000).to_bytes(4, "big")))
    assert raw.server.data_to_send() == b""
    acknowledged = []
    for _ in range(10):
        raw.message(9, bytes(9_000), 1)
        acknowledged += [
            int.from_bytes(message.body, "big")
            for message in raw.reader.receive_data(raw.server.data_to_send())
            if message.type_id == 3
        ]
    assert len(acknowledged) == 3
    assert all(20_000 <= after - before < 30_000 for before, after in itertools.pairwise(acknowledged))


def test_a_tiny_window_does_not_make_us_acknowledge_every_byte() -> None:
    raw = RawClient(RtmpServer())
    raw.publish()
    feed(raw.server, control_message(5, (1).to_bytes(4, "big")))
    raw.server.data_to_send()
    raw.message(9, bytes(1000), 1)
    assert raw.server.data_to_send() == b""
    with pytest.raises(RemoteProtocolError, match="Window"):
        feed(raw.server, control_message(5, b"\0"))


def test_a_client_waits_for_its_start() -> None:
    client = RtmpClient("rtmp://box/app", "app", "cam")
    with pytest.raises(RuntimeError, match="can't send media"):
        client.send_video(0, b"")


def test_a_client_is_told_when_connect_fails() -> None:
    client = RtmpClient("rtmp://box/app", "app", "cam", digest=False)
    server = RtmpServer()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    refusal = {"level": "error", "code": "NetConnection.Connect.Rejected", "description": "no"}
    wire = ChunkWriter().message(3, 20, 0, 0, amf0.encode("_error", 1, None, refusal))
    assert client.receive_data(wire) == [Refused("NetConnection.Connect.Rejected", "no")]


def test_a_client_can_play() -> None:
    client = RtmpClient("rtmp://far/app", "app", "cam", play=True, digest=False)
    far = RtmpServer()
    far.receive_data(client.data_to_send())
    client.receive_data(far.data_to_send())
    far.receive_data(client.data_to_send())
    client.receive_data(far.data_to_send())
    far.receive_data(client.data_to_send())
    writer = ChunkWriter()

    def say(*values: object) -> list[ClientEvent]:
        return client.receive_data(writer.message(3, 20, 0, 0, amf0.encode(*values)))

    assert say("_result", 4, None, 7.0) == []
    assert say("onStatus", 0, None, {"level": "status", "code": "NetStream.Play.Start"}) == [
        Started("NetStream.Play.Start")
    ]
    wire = writer.message(4, 18, 7, 0, amf0.encode("onMetaData", EcmaArray(width=640.0)))
    wire += writer.message(6, 9, 7, 10, b"\x17v") + writer.message(4, 8, 7, 12, b"\xafa")
    assert client.receive_data(wire) == [Metadata(0, {"width": 640.0}), Video(10, b"\x17v"), Audio(12, b"\xafa")]
    ended = say("onStatus", 0, None, {"level": "status", "code": "NetStream.Play.UnpublishNotify"})
    assert ended == [Ended("NetStream.Play.UnpublishNotify")]
    assert client.state is ClientState.ENDED


@settings(max_examples=60)
@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_after_the_handshake_are_events_or_a_protocol_error(data: bytes, publishing: bool) -> None:
    raw = RawClient(RtmpServer())
    if publishing:
        raw.publish()
    try:
        feed(raw.server, data)
    except RemoteProtocolError:
        pass


COMMANDS = st.sampled_from(
    ["connect", "publish", "createStream", "play", "deleteStream", "FCPublish", "@setDataFrame", ""]
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["app", "tcUrl", "fourCcList", "code"]), inner)
    ),
    max_leaves=5,
)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([15, 17, 18, 20, 22]), COMMANDS, st.lists(ANYTHING, max_size=4)), max_size=6))
def test_any_commands_are_events_or_a_protocol_error(sent: list[tuple[int, str, list[object]]]) -> None:
    raw = RawClient(RtmpServer())
    try:
        for kind, name, values in sent:
            raw.message(kind, amf0.encode(name, *values))
    except RemoteProtocolError:
        pass


@settings(max_examples=60)
@given(st.binary(max_size=600))
def test_any_bytes_from_a_server_are_events_or_a_protocol_error(data: bytes) -> None:
    client, _ = connected()
    try:
        client.receive_data(data)
    except RemoteProtocolError:
        pass
