"""An application changes under its live streams: what stays as it was is not touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from appliance.engine.application import Application
from appliance.media.contracts import Source
from appliance.settings import models
from tests.engine.test_streams import AUDIO, RTMP, VIDEO, Box, application, make_box, send_gop, settled


def profile(name: str, output: str, **video: Any) -> models.OutputProfile:
    encodes = models.Encodes(videos=(models.VideoEncode(name="v", bypass=True, **video),))
    return models.OutputProfile(name=name, output_stream_name=output, encodes=encodes)


def with_profiles(*profiles: models.OutputProfile, **changes: Any) -> models.Application:
    return application(output_profiles=models.OutputProfiles(profiles=profiles), **changes)


A = profile("a", "${OriginStreamName}")
B = profile("b", "${OriginStreamName}_b")


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    async for made in make_box(with_profiles(A, B)):
        yield made


def running(box: Box) -> Application:
    found = box.directory.find_application("default", "app")
    assert found is not None
    return found


def names(box: Box, stream: str = "cam") -> list[str]:
    outputs = running(box).inputs[stream].outputs
    return list(outputs.by_name) if outputs else []


async def live(box: Box, name: str = "cam") -> Any:
    made = box.directory.open_input("default", "app", name, RTMP)
    made.prepare([VIDEO, AUDIO])
    send_gop(made)
    await settled()
    return made


async def test_an_untouched_output_is_the_same_object_and_loses_nothing(box: Box) -> None:
    source = await live(box)
    kept = box.directory.output("default", "app", "cam")
    assert kept is not None
    changed = profile("b", "${OriginStreamName}_b", width=320)
    running(box).change(with_profiles(A, changed, profile("c", "${OriginStreamName}_c")), {})
    send_gop(source, 3)
    await settled()
    assert box.directory.output("default", "app", "cam") is kept
    assert not kept.closed
    assert kept.packets == 6, "three pictures twice"
    assert names(box) == ["cam", "cam_b", "cam_c"]


async def test_a_changed_output_begins_at_the_last_key_frame(box: Box) -> None:
    await live(box)
    before = box.directory.output("default", "app", "cam_b")
    assert before is not None
    running(box).change(with_profiles(A, profile("b", "${OriginStreamName}_b", width=320)), {})
    after = box.directory.output("default", "app", "cam_b")
    assert after is not None
    assert after is not before
    assert before.closed
    assert after.packets == 3, "what has come since the key frame"


async def test_the_order_of_profiles_is_no_change(box: Box) -> None:
    await live(box)
    outputs = {name: box.directory.output("default", "app", name) for name in ("cam", "cam_b")}
    running(box).change(with_profiles(B, A), {})
    assert {name: box.directory.output("default", "app", name) for name in ("cam", "cam_b")} == outputs


async def test_without_profiles_all_is_passed_on_and_with_them_no_longer(box: Box) -> None:
    await live(box)
    running(box).change(with_profiles(), {})
    passed_on = box.directory.output("default", "app", "cam")
    assert passed_on is not None
    assert len(passed_on.tracks) == 2, "picture and sound"
    running(box).change(with_profiles(A), {})
    again = box.directory.output("default", "app", "cam")
    assert again is not None
    assert len(again.tracks) == 1
    assert passed_on.closed


async def test_a_name_that_one_stream_gives_up_is_there_for_another(box: Box) -> None:
    running(box).change(with_profiles(profile("fixed", "fixed"), A), {})
    await live(box, "one")
    await live(box, "two")
    assert "fixed" in names(box, "one")
    assert "fixed" not in names(box, "two")
    running(box).inputs["one"].close("over")
    running(box).change(with_profiles(profile("fixed", "fixed"), A, B), {})
    assert "fixed" in names(box, "two")


async def test_a_publisher_is_switched_off_changed_and_switched_on(box: Box) -> None:
    source = await live(box)
    assert len(box.publisher.outputs) == 2
    off = with_profiles(A, B, publishers=models.Publishers())
    running(box).change(off, {})
    await settled()
    assert not [name for name in box.supervisor.children if name.startswith("llhls:")]
    running(box).change(with_profiles(A, B), {})
    await settled()
    assert len(box.publisher.outputs) == 4
    other = models.Publishers(llhls=models.LLHlsPublisher(segment_count=9))
    running(box).change(with_profiles(A, B, publishers=other), {})
    await settled()
    assert len(box.publisher.outputs) == 6
    assert len([name for name in box.supervisor.children if name.startswith("llhls:")]) == 2
    assert box.publisher.outputs[-1].application is running(box).settings
    # What is not a publisher's own restarts none.
    quiet = msgspec.structs.replace(running(box).settings, decodes=models.ApplicationDecodes())
    running(box).change(quiet, {})
    await settled()
    assert len(box.publisher.outputs) == 6
    source.close("over")


async def test_inputs_stay_unless_their_provider_changed(box: Box) -> None:
    reasons: list[str] = []
    source = await live(box)
    source.on_cancel(reasons.append)
    running(box).change(with_profiles(A, B, providers=models.Providers(rtmp=models.RtmpProvider(),
                                                                      ovt=models.OvtProvider())), {})  # fmt: skip
    assert reasons == []
    changed = models.Providers(rtmp=models.RtmpProvider(max_connection=2))
    running(box).change(with_profiles(A, B, providers=changed), {})
    assert reasons == ["the settings of its provider were changed"]
    assert running(box).inputs == {}


async def test_an_input_that_is_not_prepared_yet_gets_the_new_profiles(box: Box) -> None:
    waiting = box.directory.open_input("default", "app", "soon", Source("Rtmp"))
    running(box).change(with_profiles(B), {})
    waiting.prepare([VIDEO, AUDIO])
    assert names(box, "soon") == ["soon_b"]
