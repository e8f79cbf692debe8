"""What this machine is, read from files under a root: no command is run and no right is needed.

``docs/boards.md`` says where each fact stands and on which JetPack.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from cosp.trainer.power import find_power_meter

DEVICE_TREE = "sys/firmware/devicetree/base"
"""What /proc/device-tree points to. Containers hide it there, but may mount it under another root."""

JETPACKS = {
    "32.6": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5",
    "32.7": "4.6.6", "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1", "35.4": "5.1.2", "35.5": "5.1.3",
    "35.6.0": "5.1.4", "35.6.1": "5.1.5", "35.6.2": "5.1.5", "35.6.3": "5.1.5", "35.6": "5.1.6", "36.3": "6.0",
    "36.4.0": "6.1", "36.4.2": "6.1", "36.4.3": "6.2", "36.4": "6.2.1", "36.5": "6.2.2", "38.2": "7.0", "38.4": "7.1",
    "39.0": "7.2", "39.1": "7.2", "39.2": "7.2",
}  # fmt: skip
"""Linux for Tegra -> JetPack, the release alone standing for its later points. Source: jetson_stats at f41d5ca."""

MODULE = re.compile(r"p\d{4}-\d{4}")
"""NVIDIA's number of a module or a carrier board, as in ``nvidia,p3768-0000+p3767-0005``."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine says of itself; empty, 0 or None where it does not."""

    model: str  # free text of the device tree, else of a PC's firmware
    soc: str  # such as tegra234
    modules: tuple[str, ...]  # module and carrier board, such as p3767-0005
    memory_bytes: int  # as the operating system sees it
    cpu_cores: int  # that are on
    mode: str  # the power mode by nvpmodel's name
    modes: tuple[str, ...]  # all that nvpmodel knows here
    l4t: str
    jetpack: str
    cuda: str
    power_scope: str  # the rails whose power the board measures
    power_w: float | None  # what they delivered when asked


def read_machine(root: Path = Path("/")) -> Machine:
    """Return what the files under ``root`` say."""
    tree = root / DEVICE_TREE
    compatible = _text(tree / "compatible")
    mode, modes = _power_modes(root)
    l4t = _l4t(root)
    scope, watts = _power(root)
    return Machine(
        model=_text(tree / "model") or _text(root / "sys/class/dmi/id/product_name"),
        soc=next(iter(re.findall(r"tegra\d{3}", compatible)), ""),
        modules=tuple(dict.fromkeys(MODULE.findall(f"{compatible} {_text(tree / 'nvidia,dtsfilename')}"))),
        memory_bytes=1024 * int(_found(r"MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo")) or 0),
        cpu_cores=_count(_text(root / "sys/devices/system/cpu/online")),
        mode=mode,
        modes=modes,
        l4t=l4t,
        jetpack=jetpack_of(l4t),
        cuda=_cuda(root),
        power_scope=scope,
        power_w=watts,
    )


def jetpack_of(l4t: str) -> str:
    """Return the JetPack that brings a Linux for Tegra such as ``36.4.3``; empty if it is not known."""
    release = ".".join(l4t.split(".")[:2])
    return JETPACKS.get(l4t) or JETPACKS.get(release, "")


def _l4t(root: Path) -> str:
    """``# R36 (release), REVISION: 4.3, ...`` is 36.4.3; the BOARD that follows there says nothing reliable."""
    text = _text(root / "etc/nv_tegra_release")
    release, revision = _found(r"# R(\d+)", text), _found(r"REVISION: ([\d.]+)", text)
    return f"{release}.{revision}" if release and revision else ""


def _power_modes(root: Path) -> tuple[str, tuple[str, ...]]:
    """Return the mode's name and all names; modes go by number in one file, the other names the numbers."""
    named = dict(re.findall(r"< *POWER_MODEL +ID=(\d+) +NAME=(\w+) *>", _text(root / "etc/nvpmodel.conf")))
    number = _found(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    return named.get(number, ""), tuple(named.values())


def _cuda(root: Path) -> str:
    folder = root / "usr/local/cuda"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(_text(folder / "version.json"))["cuda"]["version"])
    return _found(r"CUDA Version ([\d.]+)", _text(folder / "version.txt"))  # until CUDA 10


def _power(root: Path) -> tuple[str, float | None]:
    meter = find_power_meter(root)
    if meter is None:
        return "", None
    try:
        return meter.scope, meter.read_w()
    except (OSError, ValueError):
        return meter.scope, None


def _count(ranges: str) -> int:
    """Count the numbers of a kernel list such as ``0-3,6``; 0 for what is none."""
    ends = re.findall(r"(\d+)(?:-(\d+))?", ranges)
    return sum(int(last or first) - int(first) + 1 for first, last in ends)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else ""


def _text(file: Path) -> str:
    """Return the file's text, its strings by spaces (device trees end each with NUL); empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""
