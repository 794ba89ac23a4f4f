"""The RTMP handshake, both sides, with and without digests."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RemoteProtocolError
from appliance.protocols.rtmp.handshake import SIZE, ClientHandshake, ServerHandshake, find_digest, sign

PLAYER = b"Genuine Adobe Flash Player 001"
SERVER = b"Genuine Adobe Flash Media Server 001"


def shake(client: ClientHandshake, server: ServerHandshake) -> tuple[bytes, bytes]:
    """What the server and the client say when both are done."""
    assert not server.receive_data(client.data_to_send())
    answer = server.data_to_send()
    assert client.receive_data(answer)
    confirmation = client.data_to_send()
    assert server.receive_data(confirmation)
    return answer, confirmation


def test_the_plain_handshake_echoes() -> None:
    client = ClientHandshake(digest=False)
    c0c1 = client.data_to_send()
    server = ServerHandshake()
    assert not server.receive_data(c0c1)
    answer = server.data_to_send()
    assert answer[0] == 3
    assert len(answer) == 1 + 2 * SIZE
    assert answer[1 + SIZE :] == c0c1[1:]
    assert not server.digest
    assert client.receive_data(answer)
    assert client.data_to_send() == answer[1 : 1 + SIZE]


@pytest.mark.parametrize("scheme", [0, 1])
def test_digests_are_answered_with_digests(scheme: int) -> None:
    client, server = ClientHandshake(scheme=scheme), ServerHandshake()
    answer, confirmation = shake(client, server)
    assert server.digest
    found = find_digest(answer[1 : 1 + SIZE], SERVER)
    assert found is not None
    assert found[0] == scheme
    assert len(confirmation) == SIZE


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scheme", [0, 1])
def test_a_signed_block_is_recognised_and_a_changed_one_is_not(seed: int, scheme: int) -> None:
    source = random.Random(seed)
    block, digest = sign(bytes(4) + b"\x80\0\7\2" + source.randbytes(SIZE - 8), scheme, PLAYER)
    assert find_digest(block, PLAYER) == (scheme, digest)
    assert find_digest(block, SERVER) is None
    assert find_digest(block[:-1] + bytes([block[-1] ^ 1]), PLAYER) is None


def test_a_version_without_a_valid_digest_is_a_plain_handshake() -> None:
    c1 = bytes(4) + b"\x09\0\x7c\2" + bytes(SIZE - 8)
    server = ServerHandshake()
    server.receive_data(b"\x03" + c1)
    assert server.data_to_send()[1 + SIZE :] == c1
    assert not server.digest


@pytest.mark.parametrize("version", [0, 6, 0x47, 0xFF])
def test_other_versions_are_refused_at_their_first_byte(version: int) -> None:
    for side in (ServerHandshake(), ClientHandshake()):
        with pytest.raises(RemoteProtocolError, match="version"):
            side.receive_data(bytes([version]))


@given(st.lists(st.integers(0, 2 * SIZE + 1), max_size=6))
def test_pieces_do_not_matter_and_the_rest_is_handed_on(cuts: list[int]) -> None:
    client = ClientHandshake()
    c0c1 = client.data_to_send()
    server = ServerHandshake()
    server.receive_data(c0c1)
    client.receive_data(server.data_to_send())
    wire = c0c1 + client.data_to_send() + b"what follows"
    again, rest = ServerHandshake(), b""
    places = sorted({0, *cuts, len(wire)})
    for start, end in itertools.pairwise(places):
        if again.receive_data(wire[start:end]):
            rest = again.rest + wire[end:]
            break
    assert rest == b"what follows"
