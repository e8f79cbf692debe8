from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cosp.board.machine import jetpack_of, read_machine
from cosp.board.probe import advice, probe
from cosp.errors import UserError
from cosp.fleet import profile_names

Root = Callable[[str], Path]

FOUND = {  # files of a board -> board, mode, JetPack, watts
    "jetson-nano": ("jetson-nano", "MAXN", "4.6.1", 1.75),
    "jetson-tx2": ("jetson-tx2", "MAXP_CORE_ALL", "4.6.1", 2.6),
    "jetson-tx2-nx": ("jetson-tx2-nx", "MAXN", "4.6.1", 2.3),
    "jetson-xavier-nx-8": ("jetson-xavier-nx-8", "10W_DESKTOP", "5.1.2", 5.52),
    "jetson-xavier-nx-16": ("jetson-xavier-nx-16", "20W_6CORE", "5.1.2", 5.52),
    "jetson-agx-xavier-32": ("jetson-agx-xavier-32", "30W_ALL", "5.1.2", 5.7),
    "jetson-agx-xavier-64": ("jetson-agx-xavier-64", "15W_DESKTOP", "5.1.2", 5.7),
    "jetson-orin-nano-4": ("jetson-orin-nano-4", "10W", "6.0", 5.52),
    "jetson-orin-nano-8": ("jetson-orin-nano-8", "25W", "6.2", 5.52),
    "jetson-orin-nano-8-jetpack5": ("jetson-orin-nano-8", "15W_ORIGINAL", "5.1.2", 5.52),
    "jetson-orin-nx-8": ("jetson-orin-nx-8", "40W", "6.2", 5.52),
    "jetson-orin-nx-16": ("jetson-orin-nx-16", "15W_SUPER", "6.2", 5.52),
    "jetson-agx-orin-32": ("jetson-agx-orin-32", "40W", "6.0", 13.230474),
    "jetson-agx-orin-64": ("jetson-agx-orin-64", "50W", "5.1.2", 13.230474),
    "jetson-agx-thor": ("jetson-agx-thor", None, "7.0", 31.5),
    "jetson-t4000": ("jetson-t4000", "MAXN", "7.1", 31.5),
    "raspberry-pi-4-4": ("raspberry-pi-4-4", None, "", None),
    "raspberry-pi-4-8": ("raspberry-pi-4-8", None, "", None),
    "raspberry-pi-5": ("raspberry-pi-5", None, "", None),
}


@pytest.mark.parametrize(("files", "expected"), FOUND.items(), ids=list(FOUND))
def test_a_board_is_known_by_its_files(
    board_root: Root, files: str, expected: tuple[str, str | None, str, float | None]
) -> None:
    found = probe(board_root(files))
    board, mode, jetpack, watts = expected
    assert (found.board, found.mode, found.machine.jetpack) == (board, mode, jetpack)
    assert found.machine.power_w == (watts if watts is None else pytest.approx(watts))


def test_every_jetson_and_raspberry_pi_has_files() -> None:
    assert {board for board, *_ in FOUND.values()} == {
        name for name in profile_names() if name.startswith(("jetson-", "raspberry-"))
    }


def test_a_machine_says_what_it_is(board_root: Root) -> None:
    machine = read_machine(board_root("jetson-orin-nano-8"))
    assert machine.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (machine.soc, machine.l4t, machine.cuda, machine.cpu_cores) == ("tegra234", "36.4.3", "12.6.68", 6)
    assert machine.modules == ("p3768-0000", "p3767-0005")
    assert machine.memory_bytes == 7619 * 2**20
    assert (machine.mode, machine.modes) == ("25W", ("15W", "25W", "MAXN_SUPER", "7W"))


def test_a_module_with_the_memory_of_no_known_board_is_none_of_them(board_root: Root) -> None:
    root = board_root("jetson-agx-xavier-32")
    (root / "proc/meminfo").write_text("MemTotal: 16000000 kB\n", encoding="ascii")
    found = probe(root)
    assert found.board is None
    assert "cosp calibrate" in advice(found)


def test_an_empty_file_system_is_no_board(tmp_path: Path) -> None:
    found = probe(tmp_path)
    assert (found.board, found.machine.model, found.machine.memory_bytes) == (None, "", 0)


def test_a_root_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: is not a folder"):
        probe(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("l4t", "jetpack"), [("36.4.3", "6.2"), ("36.4.9", "6.2.1"), ("35.4.1", "5.1.2"), ("99.1", ""), ("", "")]
)
def test_jetpacks_go_by_release_where_a_point_is_unknown(l4t: str, jetpack: str) -> None:
    assert jetpack_of(l4t) == jetpack


def test_this_machine_can_be_read() -> None:
    assert read_machine().memory_bytes > 0
    json.dumps(read_machine().__dict__)
