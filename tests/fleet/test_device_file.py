from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cosp.board.correction import Observed, corrected
from cosp.fleet import load_profile
from cosp.fleet.device_file import device_yaml
from cosp.fleet.profiles import profile_names


@pytest.mark.parametrize("name", profile_names())
def test_a_corrected_profile_written_and_read_is_the_same(name: str, tmp_path: Path) -> None:
    profile = corrected(load_profile(name), [Observed(predicted_s=1.0, measured_s=s) for s in (0.5, 1.3, 1.9)])
    path = tmp_path / f"{name}.yaml"
    path.write_text(device_yaml(profile, measured_in="my run"), encoding="utf-8")
    found = load_profile(path)
    for field in ("flops_per_s", "memory_bytes_per_s", "launch_s"):
        assert getattr(found, field) == pytest.approx(getattr(profile, field), rel=1e-12)
        assert getattr(found.spread, field) == pytest.approx(getattr(profile.spread, field), rel=1e-12)
    if profile.half_flops_per_s is not None:
        assert found.half_flops_per_s == pytest.approx(profile.half_flops_per_s, rel=1e-12)
    rates = ("flops_per_s", "half_flops_per_s", "memory_bytes_per_s", "launch_s", "memory_bytes")
    assert replace(found, **{field: getattr(profile, field) for field in rates}) == profile
    assert found.memory_bytes == pytest.approx(profile.memory_bytes, abs=1)
