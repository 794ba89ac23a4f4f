"""One connection to a target: frames from the hub to the network until one of the two ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from appliance.errors import KilnError
from appliance.media.packet import Packet
from appliance.media.stream import Reader
from appliance.publishers.push.target import Target

#: A target that is this many seconds of media behind gets no more of what is old: the newest key frame is next.
LARGEST_LAG: Final = 4.0
#: How long a goodbye may take, in seconds.
FINISH_WITHIN: Final = 1.0

#: Told of the last packet of a batch that was sent, and of how many frames were left out before it.
Sent = Callable[[Packet, int], None]


async def deliver(target: Target, reader: Reader, stop: trio.Event, sent: Sent) -> None:
    """Until the stream ends or ``stop`` is set; then the target is told. ``sent`` is called after each batch with its
    last packet and how many frames were left out. Raises what ends the connection."""
    faults: list[KilnError] = []

    async with trio.open_nursery() as nursery:

        async def follow_peer() -> None:
            try:
                await target.listen()
            except KilnError as error:
                faults.append(error)
                nursery.cancel_scope.cancel()

        async def follow_stop() -> None:
            await stop.wait()
            reader.close()

        nursery.start_soon(follow_peer)
        nursery.start_soon(follow_stop)
        try:
            await _forward(target, reader, sent)
            with trio.move_on_after(FINISH_WITHIN):
                await target.finish()
        except KilnError as error:
            # What the peer said is the better reason than that it then was gone.
            faults.append(error)
        nursery.cancel_scope.cancel()
    if faults:
        raise faults[0]


async def _forward(target: Target, reader: Reader, sent: Sent) -> None:
    first = True
    async for packets in reader:
        # What a new reader begins with is a group of pictures, however long that is.
        left = packets if first else newest(packets)
        first = False
        await target.send(left)
        sent(left[-1], len(packets) - len(left))


def newest(packets: list[Packet], lag: float = LARGEST_LAG) -> list[Packet]:
    """``packets``, or what follows from the newest key frame on when they span more than ``lag`` seconds."""
    first, last = packets[0], packets[-1]
    if len(packets) < 2 or _seconds(last) - _seconds(first) <= lag:
        return packets
    for number in range(len(packets) - 1, 0, -1):
        packet = packets[number]
        if packet.keyframe and packet.track.is_video:
            return packets[number:]
    return packets if _has_video(packets) else packets[len(packets) // 2 :]


def _has_video(packets: Sequence[Packet]) -> bool:
    return any(packet.track.is_video for packet in packets)


def _seconds(packet: Packet) -> float:
    return packet.dts / packet.track.timescale
