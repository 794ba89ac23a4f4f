"""An HTTP/1.1 connection whose plain GETs are answered without its task, where the application has direct answers.

The connection's task sleeps between requests; the dispatcher reads, answers what it can, and wakes the task for the
rest: other methods, bodies, requests that only the ASGI application knows, clients that read slowly, and the end.
"""

from __future__ import annotations

import math
from typing import Any

import trio

from appliance.net.asgi import BadTarget, Scope
from appliance.net.connection import Address, Server
from appliance.net.direct import Answering, Direct, Reply, advance
from appliance.net.dispatcher import Dispatcher, ParkedAnswer
from appliance.net.http1 import Http1Connection, WebSocketHandler
from appliance.net.http1_parser import Request
from appliance.net.transport import PlainTransport

_MOST_IN_A_ROW = 8
_CLOSE = b"connection: close\r\n"


class DirectHttp1Connection(Http1Connection):
    """``direct`` of the application, and the server's ``dispatcher``, beside what every connection has."""

    def __init__(
        self,
        server: Server,
        transport: PlainTransport,
        client: Address | None,
        local: Any,
        websocket: WebSocketHandler,
        direct: Direct,
        dispatcher: Dispatcher,
    ) -> None:
        super().__init__(server, transport, client, local, websocket)
        self._direct = direct
        self._dispatcher = dispatcher
        self._task: trio.lowlevel.Task | None = None
        self._parked: ParkedAnswer | None = None
        self._parked_scope: Scope | None = None
        self._begun = False
        self._deaf = False
        self._unsent: list[bytes | memoryview] = []
        self._last = False
        self._refusal = 0

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._dispatcher.unwatch(self.transport.fd)
            if self._parked is not None:
                self._parked.forget()

    def enforce(self, now: float) -> None:
        if self._parked is not None:
            self._parked.enforce(now)
        super().enforce(now)

    # The connection's task.

    async def _await_request(self) -> bool:
        """Sleep while the dispatcher answers; True when there is something for the task to answer."""
        self._await_head()
        while True:
            await self._sleep()
            if self._unsent:
                await self._send_rest()
            if self._refusal:
                await self._refuse(self._refusal)
                return False
            if self.gone or self.ended or self._last:
                return False
            if self.parser.requests or self.parser.failure:
                self._idle = False
                self.read_deadline = math.inf
                return True

    async def _send_rest(self) -> None:
        rest, self._unsent = self._unsent, []
        self._idle = False
        self.read_deadline = math.inf
        await self.write(rest)
        self._await_head()

    async def _sleep(self) -> None:
        fd = self.transport.fd
        self._dispatcher.watch(fd, self)
        self._deaf = False
        self._task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._stop_sleeping)
        finally:
            self._task = None
            if not self._deaf:
                self._dispatcher.unwatch(fd)

    def _stop_sleeping(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        self._stop_listening()
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._stop_listening()
            trio.lowlevel.reschedule(task)

    # The dispatcher's part: none of this may wait, or raise.

    def _await_head(self) -> None:
        limits = self.limits
        self._begun = self.parser.in_head
        patience = limits.idle_timeout if self._answered and not self._begun else limits.header_timeout
        self.read_deadline = self.server.now + limits.sweep_interval + patience
        self._idle = True

    def _stop_listening(self) -> None:
        if not self._deaf:
            self._deaf = True
            self._dispatcher.unwatch(self.transport.fd)

    def on_readable(self) -> None:
        if self._parked is not None:
            # Not before its answer; whether the client left meanwhile the sweep finds out.
            self._stop_listening()
            return
        data = self.transport.try_receive()
        if not data:
            if data is not None:
                self.ended = True
                self._wake()
            return
        parser = self.parser
        parser.feed(data)
        if parser.requests:
            self._answer_requests()
        elif parser.failure:
            self._wake()
        elif parser.in_head and not self._begun:
            self._begun = True
            self.read_deadline = trio.current_time() + self.limits.header_timeout

    def _answer_requests(self) -> None:
        """Answer what has come until one has to wait, or is for the task."""
        requests = self.parser.requests
        for _ in range(_MOST_IN_A_ROW):
            if not requests:
                self._await_head()
                return
            answering = self._direct_answer(requests[0])
            if answering is None:
                break
            self._advance(answering, None)
            if self._parked is not None or self._task is None:
                return
        self._wake()

    def _direct_answer(self, request: Request) -> Answering | None:
        if not request.plain or request.method != "GET" or self.server.stopping:
            return None
        try:
            scope = self._parked_scope = self.request_scope(
                "http", "1.1", "GET", request.target, request.headers, self.extensions
            )
        except BadTarget:
            return None
        return self._direct(scope)

    def _resume(self, answering: Answering, released: bool) -> None:
        """The answer that was waited for goes on."""
        self._parked = None
        self.busy = False
        self._advance(answering, released)
        if self._parked is None and self._task is not None:
            if self._deaf:
                self._deaf = False
                self._dispatcher.watch(self.transport.fd, self)
            self._answer_requests()

    def _advance(self, answering: Answering, released: bool | None) -> None:
        try:
            step = advance(answering, released)
            if isinstance(step, Reply) and not step.fields:
                self.server.heads.fields(step)
        except Exception as error:
            self.server.handler_failed(self._parked_scope or {"path": ""}, error)
            self._refusal = 500
            self._wake()
            return
        if isinstance(step, Reply):
            self._send_reply(step)
            return
        self._parked = ParkedAnswer(self._dispatcher, answering, step, self._resume)
        self._idle = False
        self.read_deadline = math.inf
        self.busy = True

    def _send_reply(self, reply: Reply) -> None:
        server = self.server
        server.requests += 1
        self._answered = True
        self.parser.requests.popleft()
        heads = server.heads
        pieces: list[bytes | memoryview] = [heads.start(reply.status), reply.fields, *reply.buffers]
        if server.stopping:
            pieces.insert(1, _CLOSE)
            self._last = True
        try:
            self._unsent = self.transport.try_send(pieces)
        except OSError:
            self.gone = True
        if self._unsent or self.gone or self._last:
            self._wake()
