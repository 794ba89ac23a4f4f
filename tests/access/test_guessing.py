"""Bad tokens by address: free tries, then a wait that ends by itself."""

from __future__ import annotations

from appliance.access.guessing import FREE, MOST_ADDRESSES, WINDOW, Guessing


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_eleventh_bad_token_in_a_minute_waits() -> None:
    guessing = Guessing(Hand())
    assert [guessing.failed("192.0.2.1") for _ in range(FREE)] == [0.0] * FREE
    assert 0 < guessing.failed("192.0.2.1") <= WINDOW


def test_another_address_is_not_punished() -> None:
    guessing = Guessing(Hand())
    for _ in range(FREE + 5):
        guessing.failed("192.0.2.1")
    assert guessing.failed("192.0.2.2") == 0.0


def test_a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() -> None:
    guessing = Guessing(Hand())
    for number in range(FREE):
        assert guessing.failed(f"2001:db8::{number:x}") == 0.0
    assert guessing.failed("2001:db8::ffff") > 0
    assert guessing.failed("2001:db8:0:1::1") == 0.0
    for _ in range(FREE):
        guessing.failed("::ffff:192.0.2.9")
    assert guessing.failed("192.0.2.9") > 0


def test_a_minute_later_all_is_forgiven() -> None:
    hand = Hand()
    guessing = Guessing(hand)
    for _ in range(FREE + 1):
        guessing.failed("192.0.2.1")
    hand.now += WINDOW + 0.1
    assert guessing.failed("192.0.2.1") == 0.0


def test_a_steady_rate_below_the_limit_never_waits() -> None:
    hand = Hand()
    guessing = Guessing(hand)
    for _ in range(100):
        assert guessing.failed("192.0.2.1") == 0.0
        hand.now += WINDOW / FREE + 0.01


def test_a_storm_of_addresses_is_bounded() -> None:
    guessing = Guessing(Hand())
    for number in range(MOST_ADDRESSES * 2):
        guessing.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guessing._bad) == MOST_ADDRESSES
