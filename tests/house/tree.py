"""The tracked files and what they import, as the house tests look at them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def tracked_files() -> tuple[str, ...]:
    """Paths from the root of the repository of what git tracks and what is there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return tuple(name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).exists())


@dataclass(frozen=True)
class Import:
    """One imported name. ``at_load``: happens when the module is loaded. ``for_types``: under TYPE_CHECKING."""

    module: str
    line: int
    at_load: bool
    for_types: bool


@dataclass(frozen=True)
class Module:
    """A Python module of the product: dotted name, path from the root, syntax tree."""

    name: str
    path: str
    package: bool
    tree: ast.Module

    @property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports(self))


def parse(name: str, source: str, *, package: bool = False) -> Module:
    """A module made of ``source``: the checks try their own rules on such ones."""
    return Module(name, name.replace(".", "/") + ".py", package, ast.parse(source))


@cache
def product_modules() -> dict[str, Module]:
    """All tracked modules of ``appliance`` and ``hw`` by dotted name."""
    modules = {}
    for path in tracked_files():
        if path.endswith(".py") and path.split("/")[0] in ("appliance", "hw"):
            parts = path.removesuffix(".py").split("/")
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            tree = ast.parse((ROOT / path).read_text(), filename=path)
            modules[name] = Module(name, path, package, tree)
    return modules


def within(name: str, *packages: str) -> bool:
    """Whether the dotted ``name`` is one of ``packages`` or below one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def _imports(module: Module) -> Iterator[Import]:
    def visit(node: ast.AST, at_load: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_load, for_types)
            return
        if isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, at_load, for_types)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_load = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for typed in node.body:
                yield from visit(typed, False, True)
            for other in node.orelse:
                yield from visit(other, at_load, for_types)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_load, for_types)

    yield from visit(module.tree, True, False)


def _base(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    up = node.level - 1 if module.package else node.level
    base = parts[: len(parts) - up]
    return ".".join([*base, *([node.module] if node.module else [])])


def resolve(imported: str, known: frozenset[str]) -> str | None:
    """The module of ours that ``imported`` (``package.module.name``) loads: the longest prefix that is one."""
    parts = imported.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in known:
            return name
    return None
