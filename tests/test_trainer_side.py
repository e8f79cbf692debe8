"""The trainer side runs on a JetPack 5 board: Python 3.8, torch 2.0 and nothing else of what cosp installs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBE = ROOT / "tests" / "trainer_probe.py"


def expanded(pattern: str) -> list[str]:
    """Return the patterns that one with ``{a,b}`` stands for."""
    head, opened, rest = pattern.partition("{")
    names, _, tail = rest.partition("}")
    return [f"{head}{name}{tail}" for name in names.split(",")] if opened else [pattern]


RUFF = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
PATTERNS = RUFF["per-file-target-version"]
TRAINER_SIDE = sorted(
    str(path.relative_to(ROOT)) for one in PATTERNS for pattern in expanded(one) for path in ROOT.glob(pattern)
)

NEWER_NAMES = {  # module -> what came after Python 3.8
    "contextlib": {"aclosing", "chdir"},
    "dataclasses": {"KW_ONLY"},
    "functools": {"cache"},
    "itertools": {"batched", "pairwise"},
    "math": {"cbrt", "exp2", "lcm", "nextafter", "ulp"},
    "types": {"NoneType", "UnionType"},
    "typing": {"Annotated", "Concatenate", "NotRequired", "ParamSpec", "Required", "Self", "TypeAlias", "TypeGuard"},
}
NEWER_MODULES = {"graphlib", "tomllib", "zoneinfo"}
NEWER_METHODS = {"bit_count", "hardlink_to", "is_relative_to", "removeprefix", "removesuffix", "with_stem"}
NEWER_KEYWORDS = {("zip", "strict"), ("dataclass", "kw_only"), ("dataclass", "slots"), ("field", "kw_only")}
BUILTIN_TYPES = {"dict", "frozenset", "list", "set", "tuple", "type"}
SUBSCRIPTED_SINCE_39 = {"collections", "collections.abc", "contextlib", "os", "queue", "re"}

ABSENT = (  # from a board
    "datasets", "flwr", "flwr_datasets", "jinja2", "matplotlib", "PIL", "psutil", "pydantic", "rich", "safetensors",
    "sklearn", "typer", "yaml",
)  # fmt: skip
RUN_WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys({absent})); runpy.run_path({path!r}, run_name='__main__')"
)


class NewerThan38(ast.NodeVisitor):
    """Collects what Python 3.8 parses but cannot run; annotations are never evaluated and so not looked at."""

    def __init__(self, text: str) -> None:
        self.found: list[str] = []
        self._unsubscriptable = set(BUILTIN_TYPES)
        self.visit(ast.parse(text, feature_version=(3, 8)))

    def visit(self, node: ast.AST) -> None:
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, None)
        super().visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self._check(node, any(name.name in NEWER_MODULES for name in node.names), "newer module")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module, names = node.module or "", {name.name for name in node.names}
        self._check(node, module in NEWER_MODULES or bool(names & NEWER_NAMES.get(module, set())), "newer name")
        if module in SUBSCRIPTED_SINCE_39:
            self._unsubscriptable |= {name for name in names if name[0].isupper()}

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        self._check(node, node.attr in NEWER_METHODS | NEWER_NAMES.get(owner, set()), "newer attribute")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        self._check(node, any((name, keyword.arg) in NEWER_KEYWORDS for keyword in node.keywords), "newer argument")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        name = node.value.id if isinstance(node.value, ast.Name) else ""
        self._check(node, name in self._unsubscriptable, "generic evaluated at run time")
        self.generic_visit(node)

    def visit_BitOr(self, node: ast.BitOr) -> None:
        self.found.append("| at run time: types and dicts have it since 3.9")

    def _check(self, node: ast.expr | ast.stmt, wrong: bool, what: str) -> None:
        if wrong:
            self.found.append(f"line {node.lineno}: {what}: {ast.unparse(node)}")


def run_probe(python: str, *flags: str) -> dict[str, Any]:
    """Return what the probe prints under ``python`` without ABSENT, on the CPU, with this checkout's cosp."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    code = RUN_WITHOUT.format(absent=ABSENT, path=str(PROBE))
    done = subprocess.run([python, *flags, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    return run_probe(sys.executable, "-W", "error")


def test_the_linter_knows_the_same_rooms() -> None:
    assert set(PATTERNS) <= set(RUFF["lint"]["per-file-ignores"])
    assert len(TRAINER_SIDE) > 40


@pytest.mark.parametrize("path", [*TRAINER_SIDE, "tests/trainer_probe.py"])
def test_the_trainer_side_is_python_38(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert NewerThan38(text).found == []
    assert not text.strip() or path == "cosp/__init__.py" or "from __future__ import annotations" in text


@pytest.mark.parametrize(
    "text",
    [
        "zip(a, b, strict=True)",
        "@dataclass(frozen=True, kw_only=True)\nclass A: pass",
        "Rows = list[int]",
        "class A(dict[str, int]): pass",
        "from collections.abc import Mapping\nclass A(Mapping[str, int]): pass",
        "Length = int | None",
        "both = {**a} | b",
        "a |= b",
        "from functools import cache",
        "@functools.cache\ndef f(): pass",
        "name.removeprefix('hf:')",
        "import tomllib",
    ],
)
def test_what_python_38_cannot_run_is_found(text: str) -> None:
    assert len(NewerThan38(text).found) == 1


def test_annotations_may_be_newer() -> None:
    assert NewerThan38("def f(a: list[int] | None) -> dict[str, int]:\n    b: tuple[int, ...] = ()").found == []


def test_match_does_not_parse() -> None:
    with pytest.raises(SyntaxError):
        NewerThan38("match a:\n    case 1: pass")


def test_a_trainer_works_with_torch_and_numpy_alone(here: dict[str, Any]) -> None:
    assert any(here["change"])
    assert here["counted"] == here["texts"]["counted"] == 3 * 12  # two exits and their mean, each on twelve samples


def test_all_that_a_trainer_imports_is_checked(here: dict[str, Any]) -> None:
    checked = {path[: -len(".py")].replace("/", ".").replace(".__init__", "") for path in TRAINER_SIDE}
    assert set(here["loaded"]) <= checked
