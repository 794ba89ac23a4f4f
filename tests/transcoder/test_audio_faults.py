"""Sound that can not be encoded: told, tried again ever more seldom, and never at the cost of the rest."""

from __future__ import annotations

from fractions import Fraction

import pytest
from av.error import InvalidDataError

from appliance.errors import WorkerFault
from appliance.transcoder.spec import RenditionSpec
from appliance.transcoder.worker import audio, graph
from appliance.transcoder.worker.audio import AudioRendition
from appliance.transcoder.worker.pattern import PatternSound
from appliance.transcoder.worker.retry import Retry
from tests.transcoder.harness import aac
from tests.transcoder.test_graph import Bench, bench

RATE = 48000


class Time:
    """A clock for the graph that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def sound(made: Bench, seconds: float, clock: Time | None = None) -> None:
    frame = PatternSound(RATE, 2, 440).frame(0, 1024)
    for number in range(int(seconds * RATE / 1024)):
        frame.pts, frame.time_base = number * 1024, Fraction(1, RATE)
        if clock is not None:
            clock.now = 1000.0 + number * 1024 / RATE
        made.graph.audio_frame(1, frame)


def test_pauses_grow_and_reports_are_a_minute_apart() -> None:
    retry = Retry()
    now, tries, told = 0.0, [], 0
    while now < 400:
        if retry.due(now):
            tries.append(now)
            told += retry.failed(now)
        now += 0.5
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    assert told == 7
    retry.worked()
    retry.failed(now)
    assert not retry.due(now + 0.9)
    assert retry.due(now + 1)


def test_an_encoder_that_does_not_open_is_tried_again_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, opened = Time(), []

    def fails(name: str, spec: RenditionSpec, rate: int) -> None:
        opened.append(clock.now)
        raise WorkerFault(f"encoder {name} does not open: no such thing")

    with bench() as made:
        with monkeypatch.context() as patch:
            patch.setattr(graph, "time", clock)
            patch.setattr(audio, "open_audio_encoder", fails)
            made.graph.set_renditions([aac(0)])
            made.start()
            sound(made, 50, clock)
        assert len(opened) == 6
        assert made.faults == ["encoder aac does not open: no such thing"]
        # Another wish is tried at once.
        made.graph.set_renditions([aac(0, bitrate=64_000)])
        sound(made, 1)
    assert len(made.packets) > 40


def test_settings_that_can_never_work_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time()
    with bench() as made, monkeypatch.context() as patch:
        patch.setattr(graph, "time", clock)
        made.graph.set_renditions([aac(0, modules=("libopus",)), aac(2)])
        made.start()
        sound(made, 70, clock)
    assert [text for text in made.faults if "no encoder for" in text] == made.faults
    assert len(made.faults) == 1
    assert {packet.track for packet in made.packets} == {2}


def test_a_fault_at_the_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: AudioRendition) -> None:
        raise InvalidDataError(1, "the end is broken")

    monkeypatch.setattr(AudioRendition, "finish", broken)
    with bench() as made:
        made.graph.set_renditions([aac(0)])
        made.start()
        sound(made, 0.5)
    assert len(made.faults) == 1
    assert made.faults[0].startswith("aac: ")
    assert "the end is broken" in made.faults[0]
