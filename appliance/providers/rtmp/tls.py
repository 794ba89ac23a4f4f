"""RTMPS: TLS is taken off here, and a connection of the provider's own serves what is inside.

A socket pair stands between them, so that the way of an ordinary publisher costs nothing more.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

log = logging.getLogger("kiln.rtmp")

READ_SIZE: Final = 64 * 1024
#: Seconds that a peer may take to shake hands, and to take what we said last.
HANDSHAKE_WITHIN: Final = 10.0
LINGER: Final = 1.0

Tls = trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def without_tls(
    sock: trio.socket.SocketType, context: ssl.SSLContext
) -> AsyncIterator[trio.socket.SocketType | None]:
    """A socket that gives what the peer of ``sock`` sends inside of TLS, and takes what it is to get; None when no
    handshake came about. What was written to it reaches the peer when this is left in peace."""
    # Bytes cut off at the end are no attack here: RTMP says itself when a stream ends.
    tls = trio.SSLStream(trio.SocketStream(sock), context, server_side=True, https_compatible=True)
    try:
        with trio.fail_after(HANDSHAKE_WITHIN):
            await tls.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        log.info("no TLS handshake reason=%s", error.__cause__ or "none within 10 s")
        yield None
        return
    inner, outer = trio.socket.socketpair()
    relay = trio.SocketStream(outer)
    with inner:
        async with trio.open_nursery() as nursery, relay:
            nursery.start_soon(_decrypt, tls, relay)
            sent = trio.Event()
            nursery.start_soon(_encrypt, relay, tls, sent)
            yield inner
            inner.close()
            with trio.move_on_after(LINGER):
                await sent.wait()
            nursery.cancel_scope.cancel()


async def _decrypt(tls: Tls, relay: trio.SocketStream) -> None:
    try:
        while data := await tls.receive_some(READ_SIZE):
            await relay.send_all(data)
        await relay.send_eof()
    except trio.BrokenResourceError:
        # Either side is gone: the connection sees the end of its socket.
        await relay.aclose()


async def _encrypt(relay: trio.SocketStream, tls: Tls, sent: trio.Event) -> None:
    try:
        while data := await relay.receive_some(READ_SIZE):
            await tls.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        log.debug("nothing more goes to the publisher reason=%s", error)
    sent.set()
