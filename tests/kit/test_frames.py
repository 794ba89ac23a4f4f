"""What finds lost frames finds them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import SMALL, TINY
from tests.kit.frames import Frame


@pytest.fixture(scope="module")
def source() -> list[Frame]:
    return frames.of_file(ffmpeg.source(SMALL), "video")


def test_a_file_has_all_its_frames(source: list[Frame]) -> None:
    assert len(source) == SMALL.seconds * SMALL.rate
    assert [index for index, frame in enumerate(source) if frame.keyframe][:3] == [0, 30, 60]
    assert frames.longest_step(source) == frames.shortest_step(source) == Fraction(1, 30)


def test_a_run_may_begin_anywhere_and_go_round(source: list[Frame]) -> None:
    assert frames.run_in(source[100:], source) == 100
    assert frames.run_in(source[100:] + source[:50], source) == 100


@pytest.mark.parametrize("damage", ["missing", "doubled", "swapped", "altered"])
def test_damage_is_seen(source: list[Frame], damage: str) -> None:
    got = list(source[10:100])
    match damage:
        case "missing":
            del got[40]
        case "doubled":
            got.insert(40, got[40])
        case "swapped":
            got[40], got[41] = got[41], got[40]
        case _:
            other = frames.of_file(ffmpeg.source(TINY), "video")[40]
            got[40] = Frame(got[40].pts, got[40].dts, False, other.digest)
    with pytest.raises(AssertionError, match=r"frame 4[01] of"):
        frames.run_in(got, source)


def test_parameter_sets_and_delimiters_are_no_part_of_a_picture() -> None:
    def unit(kind: int, body: bytes) -> bytes:
        return (len(body) + 1).to_bytes(4, "big") + bytes([kind]) + body

    picture = unit(0x65, b"picture")
    assert frames.slices_digest(picture) == frames.slices_digest(unit(9, b"\xf0") + unit(0x67, b"sps") + picture)
    assert frames.slices_digest(picture) != frames.slices_digest(unit(0x65, b"another"))
    with pytest.raises(ValueError, match="NAL unit"):
        frames.slices_digest(picture[:-1])
