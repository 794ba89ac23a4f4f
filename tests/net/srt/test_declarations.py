"""The module that is made of libsrt's declarations is the one of today, and loading it reads no C."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appliance.net.srt.declarations import MODULE, module_text


def test_the_module_is_what_the_declarations_make() -> None:
    assert MODULE.read_text() == module_text(), "run python -m appliance.net.srt.declarations"


@pytest.mark.needs("libsrt")
def test_loading_needs_no_parser_of_c() -> None:
    code = (
        "import sys; from appliance.net import srt; srt.version(); "
        "print('cffi' in sys.modules, 'pycparser' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_importing_loads_no_library() -> None:
    code = "import sys; from appliance.net import srt; print('_cffi_backend' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["False"]
