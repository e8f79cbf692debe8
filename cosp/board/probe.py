"""What ``cosp devices probe`` finds and says: this machine, the board that it is, and what is left for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosp.board.machine import Machine, read_machine
from cosp.board.matching import match
from cosp.errors import UserError
from cosp.fleet.profiles import identities, load_profile


@dataclass(frozen=True, kw_only=True)
class Probe:
    """``board`` None: none of the known ones. ``mode`` None: not known, so the profile is taken in its default mode."""

    machine: Machine
    board: str | None
    mode: str | None
    training_bytes: int | None
    """Memory that the board's profile leaves to training."""


def probe(root: Path = Path("/")) -> Probe:
    """Look at the machine whose file system begins at ``root``; UserError if that is no folder."""
    if not root.is_dir():
        raise UserError(f"--root {root}: is not a folder; give / or where the board's files are mounted")
    machine = read_machine(root)
    found = match(machine, identities())
    if found is None:
        return Probe(machine=machine, board=None, mode=None, training_bytes=None)
    profile = load_profile(found.board, found.mode)
    return Probe(machine=machine, board=found.board, mode=found.mode, training_bytes=profile.memory_bytes)


def fact_cells(found: Probe) -> list[tuple[str, str]]:
    """Return what the machine says of itself as (fact, value), what it does not say left out."""
    machine = found.machine
    watts = "" if machine.power_w is None else f"{machine.power_w:.2f} W now "
    cells = {
        "model": machine.model,
        "chip": machine.soc,
        "modules": ", ".join(machine.modules),
        "memory": f"{machine.memory_bytes / 2**20:,.0f} MiB" if machine.memory_bytes else "",
        "CPU cores on": str(machine.cpu_cores or ""),
        "power mode": machine.mode,
        "Linux for Tegra": machine.l4t,
        "JetPack": machine.jetpack,
        "CUDA": machine.cuda,
        "power measured": f"{watts}({machine.power_scope})" if machine.power_scope else "no sensor",
    }
    return [(name, value) for name, value in cells.items() if value]


def advice(found: Probe) -> str:
    """Return one or two lines: which profile to use."""
    if found.board is None:
        return (
            "board: none of `cosp devices` by module, model and memory. For a profile of its own: "
            "cosp calibrate --like BOARD --out my-board.yaml"
        )
    mode = found.mode or f"not recognised ({found.machine.mode or 'no nvpmodel here'}): taken in its default mode"
    free_mib = (found.training_bytes or 0) / 2**20
    return f"board: {found.board}, mode: {mode}\nmemory for training: {free_mib:,.0f} MiB headless"
