"""The capture provider: it holds the stream, names what is wrong with a URL, and lets go when told."""

from __future__ import annotations

import pytest
import trio

from appliance.errors import ConfigError, NameTaken
from appliance.media.track import Codec, MediaType
from appliance.providers.capture import CaptureProvider
from tests.kit.recording_directory import RecordingDirectory, provider_context

URL = "pattern://?size=640x360&fps=25&samplerate=44100&channels=1"


async def test_it_brings_raw_tracks_and_stays_until_cancelled() -> None:
    directory = RecordingDirectory()
    steps = 0

    def progress() -> None:
        nonlocal steps
        steps += 1

    async with provider_context(directory) as context:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(CaptureProvider(context, "default", "app", "cam", URL).run, progress)
            await trio.testing.wait_all_tasks_blocked()
            (stream,) = directory.inputs
            video, audio = stream.prepared
            assert (stream.source.kind, stream.source.url) == ("Capture", URL)
            assert (video.media, video.codec, video.width, video.height) == (MediaType.VIDEO, Codec.RAW, 640, 360)
            assert video.frame_rate == 25
            assert (audio.media, audio.codec) == (MediaType.AUDIO, Codec.RAW)
            assert (audio.sample_rate, audio.channels) == (44100, 1)
            nursery.cancel_scope.cancel()
        assert await stream.wait_closed() == "capture stopped"
    assert steps >= 1


async def test_it_ends_when_the_engine_ends_its_input() -> None:
    directory = RecordingDirectory()
    async with provider_context(directory) as context, trio.open_nursery() as nursery:
        nursery.start_soon(CaptureProvider(context, "default", "app", "cam", URL).run, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        directory.inputs[0].cancel("deleted")
        assert await directory.inputs[0].wait_closed() == "deleted"


async def test_a_bad_url_and_a_name_in_use_are_said_at_once() -> None:
    directory = RecordingDirectory()
    async with provider_context(directory) as context:
        with pytest.raises(ConfigError, match="unknown parameter sise"):
            CaptureProvider(context, "default", "app", "cam", "pattern://?sise=640x360")
        with pytest.raises(ConfigError, match="not a capture URL"):
            CaptureProvider(context, "default", "app", "cam", "file:///etc/passwd")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(CaptureProvider(context, "default", "app", "cam", URL).run, lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(NameTaken):
                await CaptureProvider(context, "default", "app", "cam", URL).run(lambda: None)
            nursery.cancel_scope.cancel()
