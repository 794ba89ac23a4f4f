"""What of libsrt's srt.h is used; ``python -m appliance.net.srt.declarations`` makes ``_libsrt.py`` of it again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

MODULE: Final = Path(__file__).with_name("_libsrt.py")
_HEAD: Final = """\
# ruff: noqa: E501
# mypy: ignore-errors
# Made by `python -m appliance.net.srt.declarations`: change that file, not this one.
"""

DECLARATIONS: Final = """
typedef struct { int32_t fd; int events; } SRT_EPOLL_EVENT;
typedef struct {
    int64_t msTimeStamp, pktSentTotal, pktRecvTotal;
    int pktSndLossTotal, pktRcvLossTotal, pktRetransTotal, pktSentACKTotal, pktRecvACKTotal, pktSentNAKTotal,
        pktRecvNAKTotal;
    int64_t usSndDurationTotal;
    int pktSndDropTotal, pktRcvDropTotal, pktRcvUndecryptTotal;
    uint64_t byteSentTotal, byteRecvTotal, byteRcvLossTotal, byteRetransTotal, byteSndDropTotal, byteRcvDropTotal,
        byteRcvUndecryptTotal;
    int64_t pktSent, pktRecv;
    int pktSndLoss, pktRcvLoss, pktRetrans, pktRcvRetrans, pktSentACK, pktRecvACK, pktSentNAK, pktRecvNAK;
    double mbpsSendRate, mbpsRecvRate;
    int64_t usSndDuration;
    int pktReorderDistance;
    double pktRcvAvgBelatedTime;
    int64_t pktRcvBelated;
    int pktSndDrop, pktRcvDrop, pktRcvUndecrypt;
    uint64_t byteSent, byteRecv, byteRcvLoss, byteRetrans, byteSndDrop, byteRcvDrop, byteRcvUndecrypt;
    double usPktSndPeriod;
    int pktFlowWindow, pktCongestionWindow, pktFlightSize;
    double msRTT, mbpsBandwidth;
    int byteAvailSndBuf, byteAvailRcvBuf;
    double mbpsMaxBW;
    int byteMSS, pktSndBuf, byteSndBuf, msSndBuf, msSndTsbPdDelay, pktRcvBuf, byteRcvBuf, msRcvBuf, msRcvTsbPdDelay;
    char later_versions[512];
} SRT_TRACEBSTATS;
typedef int srt_listen_callback_fn(void *opaq, int32_t ns, int hsversion, const unsigned char *peer,
                                   const char *streamid);
int srt_startup(void);
uint32_t srt_getversion(void);
int32_t srt_create_socket(void);
int srt_bind(int32_t u, const void *name, int length);
int srt_listen(int32_t u, int backlog);
int32_t srt_accept(int32_t u, void *address, int *length);
int srt_listen_callback(int32_t u, srt_listen_callback_fn *hook, void *opaque);
int srt_connect(int32_t u, const void *name, int length);
int srt_close(int32_t u);
int srt_getpeername(int32_t u, void *name, int *length);
int srt_getsockname(int32_t u, void *name, int *length);
int srt_getsockflag(int32_t u, int option, void *value, int *length);
int srt_setsockflag(int32_t u, int option, const void *value, int length);
int srt_sendmsg2(int32_t u, const char *data, int length, void *control);
int srt_recvmsg2(int32_t u, char *data, int length, void *control);
int srt_getlasterror(int *system);
const char *srt_getlasterror_str(void);
int srt_getsockstate(int32_t u);
int srt_getrejectreason(int32_t u);
int srt_setrejectreason(int32_t u, int value);
const char *srt_rejectreason_str(int reason);
int srt_bistats(int32_t u, SRT_TRACEBSTATS *figures, int clear, int instantaneous);
int srt_epoll_create(void);
int srt_epoll_set(int eid, int32_t flags);
int srt_epoll_add_usock(int eid, int32_t u, const int *events);
int srt_epoll_update_usock(int eid, int32_t u, const int *events);
int srt_epoll_remove_usock(int eid, int32_t u);
int srt_epoll_uwait(int eid, SRT_EPOLL_EVENT *events, int size, int64_t timeout);
int srt_epoll_release(int eid);
void srt_setloglevel(int level);
"""


def module_text() -> str:
    """What ``_libsrt.py`` must be. Needs cffi's compiler part, which the running box never loads."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source("appliance.net.srt._libsrt", None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODULE.name)
        ffi.emit_python_code(str(path))
        made = path.read_text()
    return _HEAD + made.partition("\n")[2]


if __name__ == "__main__":
    MODULE.write_text(module_text())
