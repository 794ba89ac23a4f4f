"""The least that a Python server can do: one epoll loop that answers whatever comes with the same bytes.

    python -m tests.bench.bare SIZE [CORE]

prints its port and serves until it is killed. What it reaches is the ceiling of this machine at this moment.
"""

from __future__ import annotations

import os
import select
import socket
import sys


def serve(size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    pending: dict[int, memoryview] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                peer, _ = listener.accept()
                peer.setblocking(False)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                peers[peer.fileno()] = peer
                poll.register(peer, select.EPOLLIN)
                continue
            peer = peers[descriptor]
            left = pending.pop(descriptor, None)
            try:
                if left is None:
                    if not peer.recv(65536):
                        raise ConnectionResetError
                    left = memoryview(answer)
                left = left[peer.send(left) :]
            except BlockingIOError:
                pass
            except ConnectionError:
                poll.unregister(descriptor)
                peers.pop(descriptor).close()
                continue
            if left:
                pending[descriptor] = left
                poll.modify(descriptor, select.EPOLLOUT)
            else:
                poll.modify(descriptor, select.EPOLLIN)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    serve(int(sys.argv[1]))
