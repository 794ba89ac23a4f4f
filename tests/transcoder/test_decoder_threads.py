"""How many threads decode is the settings' to say."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.transcoder.harness import FileInput, gaps, h264, transcoding


def decoding(pid: int) -> int:
    """Threads of the process that decode pictures side by side."""
    names = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/comm")]
    return sum(name.startswith("av:h264:df") for name in names)


@pytest.mark.parametrize("threads", [0, 1, 3])
async def test_the_video_decoder_has_the_threads_that_were_asked_for(threads: int) -> None:
    source = FileInput()
    async with trio.open_nursery() as nursery:
        async with transcoding([h264(0)], stream=source.stream, decoder_threads=threads) as (transcoder, recorder):
            nursery.start_soon(source.play)
            await recorder.have(0, 20)
            # The process is known with its first statistics.
            await recorder.until(lambda: transcoder.stats.pid > 0)
            assert decoding(transcoder.stats.pid) == (threads if threads > 1 else 0)
        nursery.cancel_scope.cancel()
    assert gaps(recorder.packets[0]) == {3000}
    assert recorder.faults == []


async def test_a_number_of_threads_out_of_range_is_refused() -> None:
    for threads in (-1, 65):
        with pytest.raises(ValueError, match="0 to 64"):
            async with transcoding([h264(0)], source_url="pattern://", decoder_threads=threads):
                raise AssertionError("it runs")
