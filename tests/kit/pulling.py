"""One connection of a pull source, its frames remembered."""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import KilnError
from appliance.media.contracts import Context, Finished, PullRequest, PullSource, Source
from tests.kit.recording_directory import RecordedInput, RecordingDirectory, provider_context


async def pulled(
    make: Callable[[Context], PullSource], url: str, until: Callable[[RecordedInput], bool]
) -> RecordedInput:
    """What came before ``until`` held, or before the source ended. Raises what the source raises."""
    directory = RecordingDirectory()
    async with provider_context(directory) as context:
        source = make(context)
        target = directory.open_input("default", "app", "cam", Source(source.kind, url))
        request = PullRequest("default", "app", "cam", url)
        fault: list[KilnError] = []

        async def pull() -> None:
            try:
                await source.pull(request, target, lambda: None)
            except Finished:
                pass
            except KilnError as error:
                fault.append(error)
            target.close("over")

        context.nursery.start_soon(pull)
        await target.wait(lambda this: this.closed is not None or until(this), 20)
        context.nursery.cancel_scope.cancel()
    if fault:
        raise fault[0]
    return target
