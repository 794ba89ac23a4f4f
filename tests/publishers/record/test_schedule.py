from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.publishers.record.schedule import Due, parse_schedule

SECOND = 1_000_000_000


@pytest.mark.parametrize("text", ["", "*", "* *", "* * * *", "60 * *", "* 60 *", "* * 24", "01 * *", "*/ * *", "a * *",
                                  "-1 * *", "*  * *", " * * *", "*/60 * *", "1,2 * *", "1-2 * *"])  # fmt: skip
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(BadRequest, match=r"Invalid \[schedule\] parameter"):
        parse_schedule(text)


@given(st.integers(1_600_000_000, 1_900_000_000), st.sampled_from(
    ["* * *", "0 */1 *", "10 */1 *", "0 0 0", "59 59 23", "*/7 */13 */5", "0 30 *", "*/0 * *"]
))  # fmt: skip
def test_the_next_moment_is_the_first_that_fits(wall: int, text: str) -> None:
    schedule = parse_schedule(text)

    def fits(moment: int) -> bool:
        local = time.localtime(moment)
        return (local.tm_sec in schedule.seconds and local.tm_min in schedule.minutes
                and local.tm_hour in schedule.hours)  # fmt: skip

    found = schedule.after(wall)
    assert found > wall
    assert fits(found)
    assert not any(fits(moment) for moment in range(max(wall + 1, found - 2000), found))


def test_a_clock_that_steps_makes_at_most_one_split() -> None:
    minute = 1_700_000_040
    due = Due(parse_schedule("0 */1 *"), minute * SECOND)
    assert not due((minute + 1) * SECOND)
    assert due((minute + 60) * SECOND)
    assert not due((minute + 61) * SECOND)
    # A year ahead: once. Back again: not before the next full minute.
    assert due((minute + 31_536_000) * SECOND)
    assert not due((minute + 31_536_001) * SECOND)
    assert not due((minute + 62) * SECOND)
    assert due((minute + 120) * SECOND)
