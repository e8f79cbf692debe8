"""What ``make audit`` looks at beside known vulnerabilities: no file is executed that is read, pins have hashes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "cosp").rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "joblib.load"}
MAY_IMPORT_PICKLE = {
    "cosp/data/cifar.py": "a subclass of Unpickler that builds arrays of numbers alone (tests/data/test_cifar.py)",
    "cosp/checkpoints/tensors.py": "the name of the error that torch.load raises with weights_only",
}


def findings(tree: ast.Module, name: str) -> Iterator[str]:
    """Yield what could execute what a file or a caller says."""
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if UNPICKLERS & set(modules) and name not in MAY_IMPORT_PICKLE:
                yield f"{where}: imports {modules}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
            yield f"{where}: calls {called}"
        if given.get("shell") == "True":
            yield f"{where}: starts a shell"
        if called.endswith(("pickle.load", "pickle.loads", "joblib.load")):
            yield f"{where}: unpickles"
        if called == "torch.load" and given.get("weights_only") != "True":
            yield f"{where}: torch.load without weights_only=True"
        if given.get("allow_pickle", "False") != "False" or given.get("trust_remote_code", "False") != "False":
            yield f"{where}: {called} may unpickle or run what it reads"
        if called in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
            loader = ast.unparse(node.args[1]) if len(node.args) > 1 else given.get("Loader", "")
            if loader not in ("_Loader", "_Fast", "yaml.SafeLoader"):
                yield f"{where}: {called} with {loader or 'no loader'}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_executes_nothing_that_it_reads(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert list(findings(ast.parse(path.read_text(encoding="utf-8")), name)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "eval(text)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "subprocess.run(text, shell=True)",
        "load_dataset(name, trust_remote_code=True)",
    ],
)
def test_it_would_be_found(line: str) -> None:
    assert list(findings(ast.parse(line), "cosp/any.py"))


def test_the_exceptions_are_still_needed() -> None:
    for name in MAY_IMPORT_PICKLE:
        assert "import pickle" in (ROOT / name).read_text(encoding="utf-8")


def test_yaml_is_read_by_a_safe_loader() -> None:
    import yaml

    from cosp.forms import _Fast, _Loader

    assert issubclass(_Loader, yaml.SafeLoader)
    assert issubclass(_Fast, (yaml.CSafeLoader, yaml.SafeLoader))


@pytest.mark.parametrize("lock", sorted((ROOT / "docker").glob("*.lock")), ids=lambda path: path.name)
def test_a_lock_has_hashes_and_the_versions_of_constraints(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    constrained = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    known = {_plain(name): version for name, version in constrained.items()}
    assert len(pinned) > 20
    assert {name: version for name, version in pinned.items() if known.get(_plain(name), version) != version} == {}
    for entry in re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
