"""What may be in the repository, and what must be."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib import resources
from pathlib import PurePosixPath

import pytest

from tests.house.tree import ROOT, tracked_files

LONGEST = 600
WRITTEN_BY_HAND = (".py", ".js", ".html", ".css", ".tcss", ".md", ".toml", ".sh")

#: Where packages come from is the user's business: an address in the repository would take that choice away.
INDEX_ADDRESS = re.compile(
    r"py(?:pi|thonhosted)\.org|npm(?:js)\.(?:org|com)|yarn(?:pkg)\.com|"
    r"--(?:extra-)?index-url[ =]|(?:extra-)?index-url\s*[=:]|https?://(?:registry|mirror|artifactory|nexus)[.-]",
    re.IGNORECASE,
)
#: Folders of one machine.
MACHINE_PATH = re.compile(r"""(?<![\w.*<}\]])/(?:work|root|home|Users)(?=/[\w.~-]|["'\s`]|$)""", re.MULTILINE)


def texts() -> Iterable[tuple[str, str]]:
    """Every tracked text file and what it says."""
    for name in tracked_files():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data:
            yield name, data.decode(errors="replace")


def hits(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found.group()}"
        for name, text in texts()
        for found in pattern.finditer(text)
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(list(texts())) > 50


def test_no_package_index_addresses() -> None:
    assert hits(INDEX_ADDRESS) == []


def test_no_paths_of_one_machine() -> None:
    assert hits(MACHINE_PATH) == []


def test_files_are_short() -> None:
    lengths = {
        name: text.count("\n") for name, text in texts() if name.endswith(WRITTEN_BY_HAND) and "/corpus/" not in name
    }
    assert len(lengths) > 40
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_readme_says_what_each_folder_is() -> None:
    folders = {name.split("/")[0] for name in tracked_files() if "/" in name and not name.startswith(".")}
    assert {"appliance", "hw", "tests"} <= folders
    readme = (ROOT / "README.md").read_text()
    assert [folder for folder in sorted(folders) if f"`{folder}/" not in readme] == []


def test_what_the_product_reads_is_packaged() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    data = [
        PurePosixPath(name)
        for name in tracked_files()
        if name.split("/")[0] in ("appliance", "hw") and not name.endswith(".py")
    ]
    assert len(data) >= 2
    assert [str(path) for path in data if not any(fnmatch(path.name, pattern) for pattern in patterns)] == []


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {
        str(PurePosixPath(name).parent)
        for name in tracked_files()
        if name.endswith(".py") and name.split("/")[0] in ("appliance", "hw")
    }
    assert len(folders) > 8
    assert [folder for folder in sorted(folders) if f"{folder}/__init__.py" not in tracked_files()] == []


def test_the_default_configuration_is_there() -> None:
    assert "appliance/settings/default.xml" in tracked_files()
    assert resources.files("appliance.settings").joinpath("default.xml").read_text().lstrip().startswith("<")


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (INDEX_ADDRESS, "see https://" + "py" + "pi.org/simple", True),
        (INDEX_ADDRESS, '"resolved": "https://' + "registry." + 'example/x"', True),
        (INDEX_ADDRESS, "pip install --" + "index-url https://x", True),
        (INDEX_ADDRESS, "uv pip compile --no-emit-index-url --x", False),
        (INDEX_ADDRESS, "the registry of streams", False),
        (MACHINE_PATH, 'open("' + "/" + 'work/shared/x")', True),
        (MACHINE_PATH, "cd " + "/" + "root", True),
        (MACHINE_PATH, "/" + "home/someone/x", True),
        (MACHINE_PATH, "<a></root>", False),
        (MACHINE_PATH, "path == 'root/push'", False),
        (MACHINE_PATH, "the worker/ folder and net/workers", False),
    ],
)
def test_patterns(pattern: re.Pattern[str], text: str, found: bool) -> None:
    assert bool(pattern.search(text)) is found
