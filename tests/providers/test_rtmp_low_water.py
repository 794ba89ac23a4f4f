"""What is too small to wake the box behind large pictures is read all the same, within a second."""

from __future__ import annotations

from functools import partial

import trio

from appliance.media.track import MediaType
from appliance.protocols.flv import FlvMuxer
from tests.kit.recording_directory import RecordedInput, RecordingDirectory
from tests.providers.test_rtmp_provider import AUDIO, VIDEO, Encoder, has_sent, serving

#: A sweep is a second away at most; the rest is for a busy machine.
SOON = 1.3


async def large_pictures(directory: RecordingDirectory, encoder: Encoder, count: int = 60) -> RecordedInput:
    """For more than two seconds, until all of them are read, so that small things are expected behind large ones."""
    large = (b"\0\0\x0f\xa1" + b"\x65" + bytes(4000)) + b"\0\0\0\1\x65"
    track = VIDEO[0][0]
    await encoder.headers(track, AUDIO[0][0])
    # Both tracks are there: it goes on air.
    await encoder.frames(AUDIO[:1])
    live = directory.inputs[0]
    for number in range(count):
        encoder.client.send_video(*FlvMuxer.frame(track, 3000 * number, 3000 * number, True, large))
        await encoder.flush()
        await live.wait(partial(has_pictures, number + 1), 3)
        await trio.sleep(0.04)
    return live


def has_pictures(count: int, live: RecordedInput) -> bool:
    return len(live.of(MediaType.VIDEO)) == count


async def test_a_publisher_that_ends_and_keeps_the_connection_is_gone_soon() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        live = await large_pictures(directory, encoder)
        encoder.client.stop()
        await encoder.flush()
        assert await live.wait_closed(SOON) == "ended by the publisher (FCUnpublish)"
        assert provider.counters.publishers == 0


async def test_sound_goes_on_when_the_pictures_stop() -> None:
    directory = RecordingDirectory()
    async with serving(directory) as provider:
        encoder = await Encoder.publishing(provider)
        live = await large_pictures(directory, encoder)
        before = len(live.sent)
        await encoder.frames(AUDIO[1:2])
        await live.wait(partial(has_sent, before + 1), SOON)
        # With no pictures any more there is nothing to wait for.
        for number in range(2, 8):
            await encoder.frames(AUDIO[number : number + 1])
            await live.wait(partial(has_sent, before + number), SOON)
        await encoder.frames(AUDIO[8:9])
        await live.wait(partial(has_sent, before + 8), 0.5)
