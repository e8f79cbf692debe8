from __future__ import annotations

import datetime
import io
import math
import statistics

import pytest
import yaml
from rich.console import Console
from small_models import SMALL

from cosp.calibration.calibrate import Calibration, Case, calibrate, cases
from cosp.calibration.fit import Rates
from cosp.calibration.measured_profile import COLUMNS, TITLE, cells, profile_yaml, summary
from cosp.cli import screen as terminal
from cosp.errors import ConfigError
from cosp.fleet import load_profile, step_s

TODAY = datetime.date(2026, 11, 20)
GRID = cases()
RATES = Rates(flops_per_s=9e10, half_batch=0.5, memory_bytes_per_s=2e10, launch_s=8e-6)


def calibration(rates: Rates = RATES, off: float = 1.25) -> Calibration:
    """One whose machine takes ``off`` times as long as predicted for the plans that were not fitted."""
    measured = tuple((case, rates.step_s(case.step) * (1.0 if case.fitted else off)) for case in GRID)
    return Calibration(rates=rates, measured=measured, gemm_flops_per_s=1e11, copy_bytes_per_s=3e10, clock="a clock")


def written(tmp_path, found: Calibration, like: str | None = None):
    path = tmp_path / "here.yaml"
    path.write_text(profile_yaml(found, threads=1, like=like, today=TODAY), encoding="utf-8")
    return path


def test_the_grid_predicts_plans_phases_and_a_model_that_it_does_not_fit():
    fitted, unseen = ([case for case in GRID if case.fitted is chosen] for chosen in (True, False))
    trained = {(case.shape, case.plan, case.batch) for case in unseen if case.phase == "train"}
    assert not trained & {(case.shape, case.plan, case.batch) for case in fitted}
    assert {case.phase for case in unseen} == {"train", "score", "evaluate"}
    assert {case.shape for case in unseen} > {case.shape for case in fitted}


FASTER_THAN_THE_CEILINGS = Rates(flops_per_s=2e11, half_batch=0.0, memory_bytes_per_s=4e10, launch_s=0.0)


@pytest.mark.parametrize("rates", [RATES, FASTER_THAN_THE_CEILINGS])
def test_a_written_profile_predicts_what_the_fit_predicts(tmp_path, rates):
    profile = load_profile(written(tmp_path, calibration(rates)))
    for case in GRID:
        assert step_s(profile, case.step) == pytest.approx(rates.step_s(case.step), rel=1e-4)


def test_costs_that_the_timings_do_not_show_are_bounded_by_the_measured_ceilings(tmp_path):
    free = Rates(flops_per_s=math.inf, half_batch=0.0, memory_bytes_per_s=math.inf, launch_s=1e-5)
    profile = load_profile(written(tmp_path, calibration(free)))
    assert (profile.flops_per_s, profile.memory_bytes_per_s) == pytest.approx((1e11, 3e10))


def test_a_written_profile_says_when_it_was_measured_and_how_far_it_is_off(tmp_path):
    path = written(tmp_path, calibration())
    profile = load_profile(path)
    unseen = sum(not case.fitted for case in GRID)
    assert profile.calibration == f"calibrated on 2026-11-20, median error 20.0% on {unseen} plans it was not fitted to"
    assert profile.spread.launch_s == pytest.approx((1 / 1.2, 1.2), rel=1e-4)
    measured = yaml.safe_load(path.read_text())["sources"]["measured"]
    assert all(word in measured for word in ("2026-11-20", "host", "torch", "Python"))


def test_watts_are_another_boards_or_assumed(tmp_path):
    nano = load_profile("jetson-nano")
    mine = load_profile(written(tmp_path, calibration(), like="jetson-nano"))
    assert (mine.idle_w, mine.load_w) == (nano.idle_w, nano.load_w)
    assert {fact.source for fact in mine.facts if fact.key.endswith("_w")} == {"carried"}
    with pytest.raises(ConfigError, match="unknown device"):
        profile_yaml(calibration(), threads=1, like="no-board", today=TODAY)


def test_real_steps_are_timed_and_fitted(tmp_path):
    tiny = [Case(shape=SMALL, width=1, depth=depth, batch=batch, fitted=True) for depth in (1, 3) for batch in (1, 8)]
    tiny += [Case(shape=SMALL, width=1, depth=2, batch=2, phase=phase) for phase in ("train", "score", "evaluate")]
    ticks: list[None] = []
    found = calibrate(tiny, repeats=1, threads=1, on_run=lambda: ticks.append(None))
    assert len(ticks) == len(tiny)
    assert all(seconds > 0 for _, seconds in found.measured)
    assert "plans not fitted" in summary(found)
    assert load_profile(written(tmp_path, found)).calibration.startswith("calibrated on")


@pytest.mark.slow
def test_this_machine_is_predicted_to_15_percent():
    found = calibrate(GRID, repeats=5, threads=1)
    assert statistics.median(found.errors(fitted=False)) <= 0.15


def test_the_table_of_steps_fits_a_terminal_of_eighty_columns(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=80))
    terminal.print_table(TITLE, COLUMNS, cells(calibration()), left=2)
    assert "-20.0%" in screen.getvalue()  # of the last column
    assert "…" not in screen.getvalue()
