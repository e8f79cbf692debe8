"""Names on the hub, where there is none: what was fetched earlier is found, and the rest is one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface as hf
import pytest

from cosp.checkpoints import open_checkpoint
from cosp.errors import ConfigError

READ = "from cosp.checkpoints import open_checkpoint; print(open_checkpoint('somebody/tiny-bert').architecture)"


def python(cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a hub cache of its own and no network: the library reads both when it is imported."""
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache)}
    return subprocess.run([sys.executable, *words], env={**os.environ, **hub}, capture_output=True, text=True)


def test_a_model_that_was_fetched_earlier_needs_no_network(tmp_path: Path):
    held = tmp_path / "models--somebody--tiny-bert"
    (held / "refs").mkdir(parents=True)
    (held / "refs" / "main").write_text("0" * 40)
    shutil.copytree(hf.saved(hf.classifier("bert"), tmp_path / "made"), held / "snapshots" / ("0" * 40))
    done = python(tmp_path, "-c", READ)
    assert done.returncode == 0, done.stderr
    assert "family='bert'" in done.stdout


def test_a_name_that_nobody_gives_is_one_line(tmp_path: Path):
    quickstart = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
    words = ("-m", "cosp.cli", "plan", str(quickstart), "--set", "model={pretrained: somebody/tiny-bert}")
    done = python(tmp_path, *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("cosp: model.pretrained: somebody/tiny-bert is no folder here, and the hub does not give it")
    assert line.endswith("; give a folder")


def test_a_folder_of_an_installed_package_is_found_and_the_package_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "some_weights"
    hf.saved(hf.classifier("bert"), package / "model")
    (package / "__init__.py").write_text("raise SystemExit('was run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert open_checkpoint("package:some_weights/model").architecture.family == "bert"
    with pytest.raises(ConfigError, match=r"package:some_weights/other: the package some_weights has no other"):
        open_checkpoint("package:some_weights/other")
    with pytest.raises(ConfigError, match=r"no package 'no_weights' here; install .* \(pip install no-weights"):
        open_checkpoint("package:no_weights/model")
