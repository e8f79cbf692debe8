"""Secrets of whoever starts a run stay out of what the run leaves and says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_runs import TINY

pytestmark = pytest.mark.integration

IN_THE_ENVIRONMENT = {
    "HF_TOKEN": "hf_sentinel_4711",
    "WANDB_API_KEY": "wandb-sentinel-4711",
    "AWS_SECRET_ACCESS_KEY": "aws-sentinel-4711",
    "FLWR_AUTH_TOKEN": "flwr-sentinel-4711",
}


def test_nothing_of_the_environments_secrets_is_written_or_said(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**TINY, "server": {"versions": 1, "checkpoint_every": 1}}), encoding="utf-8")
    words = [sys.executable, "-m", "cosp.cli", "run", str(config), "--out", str(tmp_path / "run"), "--workers", "1"]
    words += ["--track", "tensorboard", "--export", "torch"]
    done = subprocess.run(words, env={**os.environ, **IN_THE_ENVIRONMENT}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    left = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert len(left) > 8
    for secret in IN_THE_ENVIRONMENT.values():
        assert secret.encode() not in done.stdout + done.stderr
        assert [path for path, data in left.items() if secret.encode() in data] == []
