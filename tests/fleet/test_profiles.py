from __future__ import annotations

import dataclasses

import pytest
import yaml

from cosp.errors import ConfigError
from cosp.fleet import Work, describe, load_profile, profile_names, step_s
from cosp.fleet._files import devices_folder
from cosp.fleet.profiles import VIT_KAPPA

RESNET18_TRAINING_FLOPS = 10.9e9  # per image of 224 x 224: 6 x 1.82 GMAC

CPU_BOARDS = ("raspberry", "orange", "lattepanda", "phone")

every_board = pytest.mark.parametrize("name", profile_names())


def own_file(tmp_path, **changes):
    """The Nano's file with some keys changed; a change to None drops the key."""
    data = yaml.safe_load((devices_folder() / "jetson-nano.yaml").read_text(encoding="utf-8")) | changes
    path = tmp_path / "my-board.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}), encoding="utf-8")
    return path


def test_the_boards_of_the_paper_are_there():
    assert {"jetson-nano", "jetson-xavier-nx-16", "jetson-agx-orin-64", "desktop-rtx-3090"} <= set(profile_names())


def test_the_nano_trains_resnet18_as_fast_as_measured():
    images_per_s = load_profile("jetson-nano").flops_per_s / VIT_KAPPA / RESNET18_TRAINING_FLOPS
    assert 10.4 <= images_per_s <= 11.9


def test_the_raspberry_pi_4_trains_resnet18_on_cifar_as_fast_as_measured():
    resnet18_on_cifar_flops = 6 * 0.555e9  # per image of 32 x 32
    images_per_s = load_profile("raspberry-pi-4-4").flops_per_s / VIT_KAPPA / resnet18_on_cifar_flops
    assert images_per_s == pytest.approx(1.90, rel=0.01)


IMAGES_PER_S = {  # ResNet-18 at 224 pixels: eta0 x peak / 10.9 GFLOP
    ("jetson-nano", "MAXN"): 10.8, ("jetson-tx2", "MAXN"): 30, ("jetson-xavier-nx-16", "15W_6CORE"): 33,
    ("jetson-xavier-nx-8", "15W_2CORE"): 33,
    ("jetson-agx-xavier-32", "MAXN"): 54, ("jetson-orin-nano-8", "MAXN_SUPER"): 86,
    ("jetson-orin-nx-16", "MAXN"): 78, ("jetson-orin-nx-16", "40W"): 99, ("jetson-agx-orin-32", "MAXN"): 138,
    ("jetson-agx-orin-64", "MAXN"): 220, ("raspberry-pi-5", "stock"): 1.7,
}  # fmt: skip


@pytest.mark.parametrize(("board", "images_per_s"), IMAGES_PER_S.items())
def test_boards_train_resnet18_as_the_survey_expects(board, images_per_s):
    profile = load_profile(*board)
    batch = 10**6  # large enough for the sustained rate
    work = Work(
        steps=1, batch=batch, step_flops=batch * RESNET18_TRAINING_FLOPS * VIT_KAPPA, step_bytes=0, step_kernels=0
    )
    assert batch / step_s(profile, work) == pytest.approx(images_per_s, rel=0.03)


def test_the_nano_by_hand():
    nano = load_profile("jetson-nano", "MAXN")
    assert nano.flops_per_s == pytest.approx(2 * 128 * 921.6e6 * 0.5 * 0.7, rel=1e-3)
    assert nano.memory_bytes == (3964 - 600 - 750) * 2**20
    assert nano.memory_bytes_per_s == pytest.approx(0.7 * 25.6e9)
    assert nano.load_w == pytest.approx(1.7 + 0.85 * (10 - 1.7))


def test_a_shown_fact_has_the_range_that_its_file_gives():
    facts = {fact.key: (fact.low, fact.high) for fact in load_profile("jetson-nano").facts}
    assert (facts["eta0"], facts["launch_us"]) == ((0.45, 0.55), (None, None))


@every_board
def test_every_mode_loads_and_the_default_is_one_of_them(name):
    modes = {profile.mode: profile for profile in describe(name).modes}
    assert all(load_profile(name, mode) == profile for mode, profile in modes.items())
    assert load_profile(name).mode in modes


@every_board
def test_every_fact_has_a_source_that_the_file_explains(name):
    shown = describe(name)
    tags = {fact.source for profile in shown.modes for fact in profile.facts}
    assert tags == {tag for tag, citation in shown.sources if citation}  # and no citation is left over


@every_board
def test_peaks_follow_from_cores_and_clock(name):
    for profile in describe(name).modes:
        facts = {fact.key: fact.value for fact in profile.facts}
        if "gpu_mhz" in facts:
            assert facts["peak_gflops"] == pytest.approx(2 * facts["cuda_cores"] * facts["gpu_mhz"] / 1000, abs=0.1)


@every_board
def test_boards_draw_more_under_load_than_idle_and_no_more_than_the_cap(name):
    for profile in describe(name).modes:
        cap_w = next(fact.value for fact in profile.facts if fact.key == "cap_w")
        assert profile.idle_w < profile.load_w <= cap_w


@every_board
def test_half_peaks_follow_from_the_float32_ones_where_neither_is_measured(name):
    """Tensor cores give eight times the float32 peak; Maxwell and Pascal have none, and add in pairs."""
    for profile in describe(name).modes:
        facts = {fact.key: fact for fact in profile.facts}
        if "gpu_mhz" in facts and name != "jetson-t4000" and facts["peak_half_gflops"].source == "derived":
            times = 2 if name in ("jetson-nano", "jetson-tx2", "jetson-tx2-nx") else 8
            assert facts["peak_half_gflops"].value == pytest.approx(times * facts["peak_gflops"].value, rel=1e-3)


@every_board
def test_a_board_with_a_gpu_has_a_half_precision_rate_and_one_without_has_none(name):
    for profile in describe(name).modes:
        assert (profile.half_flops_per_s is not None) == profile.gpu == (not name.startswith(CPU_BOARDS))


@every_board
def test_every_efficiency_has_a_range_of_its_own(name):
    facts = {fact.key: fact for fact in load_profile(name).facts}
    for key in facts.keys() & {"eta0", "eta0_half"}:
        assert facts[key].low < facts[key].value < facts[key].high


def test_the_nano_gains_no_arithmetic_from_half_precision_and_the_orin_about_twice():
    nano, orin = (load_profile(name) for name in ("jetson-nano", "jetson-orin-nano-8"))
    assert nano.half_flops_per_s == pytest.approx(nano.flops_per_s, rel=1e-3)
    assert orin.half_flops_per_s == pytest.approx(8 * 0.12 / 0.45 * orin.flops_per_s, rel=1e-3)


def test_15_w_switches_tpcs_off_on_the_agx_orin():
    full, gated = (load_profile("jetson-agx-orin-64", mode) for mode in ("MAXN", "15W"))
    assert full.flops_per_s / gated.flops_per_s == pytest.approx(2048 * 1301 / (768 * 408), rel=1e-3)


def test_launches_slow_down_with_the_cpu_clock():
    fast, slow = (load_profile("jetson-nano", mode) for mode in ("MAXN", "5W"))
    assert fast.launch_s == pytest.approx(25e-6)
    assert slow.launch_s == pytest.approx(25e-6 * 1479 / 918)


def test_measured_watts_win_over_the_rule():
    assert load_profile("jetson-orin-nx-16", "40W").load_w == 27.6


@every_board
def test_what_nobody_has_timed_says_so_and_has_a_spread(name):
    profile = load_profile(name)
    assert profile.calibration == "default, uncalibrated"
    spread = profile.spread
    for low, high in (spread.flops_per_s, spread.half_flops_per_s, spread.memory_bytes_per_s, spread.launch_s):
        assert low < 1 < high


def test_a_range_in_the_file_is_the_spread():
    assert load_profile("jetson-nano").spread.flops_per_s == pytest.approx((0.45 / 0.5, 0.55 / 0.5))


def test_a_file_may_say_how_its_board_was_calibrated(tmp_path):
    told = {"kappa": 1.0, "dram_share": 0.5, "overlap": False, "calibration": "calibrated on 2026-11-20"}
    mine, nano = load_profile(own_file(tmp_path, **told)), load_profile("jetson-nano")
    assert (mine.calibration, mine.overlap) == ("calibrated on 2026-11-20", False)
    assert mine.flops_per_s == pytest.approx(nano.flops_per_s / VIT_KAPPA)
    assert mine.memory_bytes_per_s == pytest.approx(nano.memory_bytes_per_s * 0.5 / 0.7)


def test_an_unknown_board_names_the_known_and_the_close():
    with pytest.raises(ConfigError, match=r"^unknown device 'jetson-nona'; known: .*; did you mean 'jetson-nano'\?"):
        load_profile("jetson-nona")


def test_an_unknown_mode_names_the_known_and_the_close():
    with pytest.raises(ConfigError, match=r"^jetson-nano: unknown mode '5w'; known: MAXN, 5W; did you mean '5W'\?$"):
        load_profile("jetson-nano", "5w")


def test_a_file_of_ones_own_is_a_board(tmp_path):
    path = own_file(tmp_path, eta0=0.25)  # a bare number needs no source
    mine, nano = load_profile(str(path)), load_profile("jetson-nano")
    assert dataclasses.replace(mine, name=nano.name, flops_per_s=nano.flops_per_s) == nano
    assert mine.flops_per_s == pytest.approx(nano.flops_per_s / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"idle_watts": 2}, r"unknown key 'idle_watts'; known: .*; did you mean 'idle_w'\?$"),
        ({"idle_w": None}, "idle_w: is missing$"),
        ({"idle_w": -1}, r"idle_w: must be > 0, got -1\.0$"),
        ({"idle_w": "two"}, "idle_w: must be a mapping of keys to values, got 'two'$"),
        ({"eta0": 1.5}, r"eta0: must be in \(0, 1\], got 1\.5$"),
        ({"eta0": {"value": 0.5, "source": "S99"}}, "eta0.source: unknown source 'S99'; known: .*; add it to sources$"),
        ({"eta0": {"value": 0.5, "low": 0.6, "source": "S40"}}, r"eta0: must have 0 <= low <= value <= high, got 0\.6"),
        ({"title": 5}, "title: must be a valid string, got 5$"),
        ({"default_mode": "MAXM"}, "default_mode: unknown mode 'MAXM'; known: .*; did you mean 'MAXN'"),
        ({"eta0_half": None}, "eta0_half goes with peak_half_gflops in every mode: give all of them or none"),
        ({"visible_mib": 1000}, "visible_mib: must exceed what is reserved, got 1000"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, changes, message):
    path = own_file(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_profile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_numbers_that_make_no_board_are_one_line(tmp_path):
    nano = load_profile("jetson-nano")
    reserved_mib = 3964 - nano.memory_bytes / 2**20
    with pytest.raises(ConfigError, match="memory_bytes must be > 0, got 0, in mode MAXN$"):
        load_profile(own_file(tmp_path, visible_mib=reserved_mib + 1e-7))


def test_a_file_that_is_not_there_or_not_yaml(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("title: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml: is not valid YAML: .* line 1") as caught:
        load_profile(tmp_path / "bad.yaml")
    assert "\n" not in str(caught.value)


def test_a_profile_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="jetson-nano: load_w must be > 0, got 0"):
        dataclasses.replace(load_profile("jetson-nano"), load_w=0)


def test_a_desktop_takes_memory_and_nothing_else():
    headless, desktop = (load_profile("jetson-nano", desktop=on) for on in (False, True))
    assert headless.memory_bytes - desktop.memory_bytes == 1500 * 2**20
    assert dataclasses.replace(desktop, memory_bytes=headless.memory_bytes) == headless


def test_a_desktop_that_cannot_be_is_one_line():
    with pytest.raises(ConfigError, match=r"^phone-mid: desktop: .*add reserved_desktop_mib to it$"):
        load_profile("phone-mid", desktop=True)


def test_a_desktop_that_leaves_no_memory_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^my-board: desktop: leaves no memory of 3964 MiB; run it headless$"):
        load_profile(own_file(tmp_path, reserved_desktop_mib=3000), desktop=True)


@every_board
def test_less_clock_or_fewer_cores_never_launch_faster_or_compute_more(name):
    """A mode that leaves no more on in CPU clock (GPU cores x clock) launches (computes) no faster."""
    modes = [(p, {fact.key: fact.value for fact in p.facts}) for p in describe(name).modes]
    for slow, low in modes:
        for fast, high in modes:
            if "cpu_mhz" in low and low["cpu_mhz"] <= high["cpu_mhz"]:
                assert slow.launch_s >= fast.launch_s
            if "gpu_mhz" in low and low["cuda_cores"] * low["gpu_mhz"] <= high["cuda_cores"] * high["gpu_mhz"]:
                assert slow.flops_per_s <= fast.flops_per_s


def test_25_w_on_the_orin_nx_is_no_faster_than_a_third_more_than_15_w():
    """Its clock is capped at 408 MHz: a mode's watts say nothing of its speed."""
    gated, capped = (load_profile("jetson-orin-nx-16", mode).flops_per_s for mode in ("15W", "25W"))
    assert capped / gated == pytest.approx(4 / 3, rel=1e-3)
