"""What all tests share: the leak gate, what they need, and what a skip means."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.kit.leaks import nothing_leaks
from tests.kit.needs import missing


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): skips where one of them is missing (tests/kit/needs.py)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if reason := missing(name):
                pytest.skip(reason)


def skips_are_failures() -> bool:
    """Where everything is installed a skip would hide a test that nobody ever runs."""
    return os.environ.get("CI") == "true" and os.environ.get("KILN_NO_SKIPS") == "1"


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and skips_are_failures():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped where nothing may be: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.fixture
def leak_gate() -> Iterator[None]:
    """Threads, descriptors and children of the test process after the test equal those before."""
    with nothing_leaks():
        yield
