"""What a publisher says in AMF becomes timed metadata."""

from __future__ import annotations

import pytest

from appliance.errors import BadRequest, Unavailable
from appliance.media.events import Event, Target, TimedMetadata
from appliance.protocols.id3 import Frame, build_tag
from appliance.providers.rtmp.event_generator import EventGenerator, parse_trigger
from appliance.settings.models.providers import ID3v2Event, RtmpEvent, RtmpEventGenerator


def generator(*rules: tuple[str, str, str, str, str]) -> EventGenerator:
    events = tuple(
        RtmpEvent(trigger=trigger, hls_id3v2=ID3v2Event(event_type=where, frame_type=kind, info=info, data=data))
        for trigger, where, kind, info, data in rules
    )
    return EventGenerator(RtmpEventGenerator(events=events), "v/a/s")


def made(maker: EventGenerator, name: str, *values: object) -> list[tuple[TimedMetadata, Target]]:
    return list(maker.events(name, values))


def test_a_value_is_found_by_keys_and_indexes() -> None:
    maker = generator(("AMFDataMessage.onMetaData.list[1].name", "Video", "TXXX", "who", "it is ${TriggerValue}"))
    tag = build_tag([Frame("TXXX", "who", "it is B")])
    values = {"list": [{"name": "A"}, {"name": "B"}]}
    assert made(maker, "onMetaData", values) == [(TimedMetadata(tag), Target.VIDEO)]
    assert made(maker, "onTextData", values) == []
    assert made(maker, "onMetaData", {"list": [{"name": "A"}]}) == []
    assert made(maker, "onMetaData") == []


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (2.5, "2.5"), (True, "true"), ("x", "x"), ([1], "")])
def test_values_as_text(value: object, text: str) -> None:
    maker = generator(("AMFDataMessage.onText.v", "", "TIT2", "", "${TriggerValue}"))
    assert made(maker, "onText", {"v": value}) == [(TimedMetadata(build_tag([Frame("TIT2", "", text)])), Target.EVENT)]


def test_an_argument_by_its_number_and_the_message_alone() -> None:
    maker = generator(
        ("AMFDataMessage.say[1]", "audio", "PRIV", "me", "${TriggerValue}"),
        ("AMFDataMessage.say", "", "TIT2", "", "said"),
    )
    found = made(maker, "say", "a", "b")
    assert found[0] == (TimedMetadata(build_tag([Frame("PRIV", "me", "b")])), Target.AUDIO)
    assert found[1] == (TimedMetadata(build_tag([Frame("TIT2", "", "said")])), Target.EVENT)


def test_rules_that_make_no_sense_are_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    maker = generator(
        ("onMetaData", "", "TXXX", "", ""),
        ("AMFDataMessage.x", "all", "TXXX", "", ""),
        ("AMFDataMessage.x", "", "APIC", "", ""),
    )
    assert caplog.text.count("event without effect stream=v/a/s") == 3
    assert made(maker, "x", {}) == []


@pytest.mark.parametrize("trigger", ["", "AMFDataMessage.", "AMFDataMessage.[0]", "SEI.x"])
def test_triggers_that_are_none(trigger: str) -> None:
    with pytest.raises(BadRequest):
        parse_trigger(trigger)


def test_an_input_that_can_not_take_it_yet_loses_nothing_else() -> None:
    taken: list[Event] = []

    class Source:
        ready = False

        def inject(self, event: Event, target: Target = Target.EVENT, *, urgent: bool = False) -> None:
            if not self.ready:
                raise Unavailable("no media yet")
            taken.append(event)

    maker, target = generator(("AMFDataMessage.x", "", "TIT2", "", "t")), Source()
    maker.take(target, "x", [])
    target.ready = True
    maker.take(target, "x", [])
    maker.take(object(), "x", [])
    assert len(taken) == 1
