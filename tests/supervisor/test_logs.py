from __future__ import annotations

import io
import logging
import re

import pytest

from appliance.logs import LineFormatter, RateLimited, redact, set_up_logging


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        ("GET /app/cam?key=abc123&x=1", "abc123", "x=1"),
        ("url=rtmp://host/app streamKey='live-77'", "live-77", "url=rtmp://host/app"),
        ('{"streamKey":"live-77","stream":"cam"}', "live-77", '"stream":"cam"'),
        ("{'passphrase': 'ten letters', 'latency': 120}", "ten letters", "'latency': 120"),
        ("srt://h:9999?mode=caller&passphrase=0123456789", "0123456789", "mode=caller"),
        ("Authorization: Basic a2lsbjpzZWNyZXQ= status=401", "a2lsbjpzZWNyZXQ", "status=401"),
        ("headers authorization=Bearer abcdef.ghijkl", "abcdef.ghijkl", "headers"),
        ("pull rtsp://user:swordfish@camera/1", "swordfish", "rtsp://user:"),
        ("access_token=0123 AccessToken: 4567", "4567", "access_token="),
        ("streamid=publish%3Fkey%3Dhidden", "hidden", "streamid="),
    ],
)
def test_secrets_are_masked(text: str, secret: str, kept: str) -> None:
    masked = redact(text)
    assert secret not in masked
    assert "***" in masked
    assert kept in masked


@pytest.mark.parametrize("text", ["keyframe=12 monkey=2", "keyframes: 3", "stream=app/cam state=running tokens=4"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(lines: io.StringIO) -> logging.Logger:
    handler = logging.StreamHandler(lines)
    handler.setFormatter(LineFormatter())
    logger = logging.Logger("kiln.test", logging.DEBUG)
    logger.addHandler(handler)
    return logger


def test_a_line(logger: logging.Logger, lines: io.StringIO) -> None:
    logger.warning("reader too slow stream=%s token=%s", "default/app/cam", "abc")
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=warning logger=kiln\.test "
        r"reader too slow stream=default/app/cam token=\*\*\*\n",
        lines.getvalue(),
    )


def test_secrets_in_a_traceback_are_masked_too(logger: logging.Logger, lines: io.StringIO) -> None:
    try:
        raise OSError("no answer from srt://h?passphrase=0123456789")
    except OSError:
        logger.exception("push failed")
    assert "OSError" in lines.getvalue()
    assert "0123456789" not in lines.getvalue()


def test_set_up_twice_writes_once() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    first, second = io.StringIO(), io.StringIO()
    try:
        set_up_logging("INFO", first)
        set_up_logging("WARNING", second)
        logging.getLogger("kiln.x").info("quiet")
        logging.getLogger("kiln.x").warning("loud key=1")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert second.getvalue().endswith("logger=kiln.x loud key=***\n")


def test_a_wrong_level_is_an_error() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        set_up_logging("LOUD")


def test_repeats_are_counted_and_logged_once_a_second(logger: logging.Logger, lines: io.StringIO) -> None:
    now = 0.0
    limited = RateLimited(logger, clock=lambda: now)
    for step in range(25):
        now = step * 0.1
        limited(logging.WARNING, "dropped stream=%s", "cam")
    limited.flush()
    limited.flush()
    messages = [line.partition("kiln.test ")[2] for line in lines.getvalue().splitlines()]
    assert messages == [
        "dropped stream=cam",
        "dropped stream=cam repeated=10",
        "dropped stream=cam repeated=10",
        "dropped stream=cam repeated=4",
    ]
    assert limited.total == 25
