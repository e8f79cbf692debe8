"""What each kind of board can do, read from ``devices/*.yaml`` or from a user's own file of the same form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, model_validator

from cosp import forms
from cosp.errors import ConfigError
from cosp.fleet import _files
from cosp.fleet._files import FactForm, NotNegative, Positive, Ratio
from cosp.fleet.identity import Identity
from cosp.forms import Form

VIT_KAPPA = 0.7
"""Speed of a ViT's kernels against dense convolutions. Assumed: nobody has published ViT training on such a board."""

DRAM_SHARE = 0.7
"""Share of the theoretical DRAM bandwidth that training reaches. Assumed."""

LOAD_SHARE = 0.85
"""Where training lies between idle and a mode's cap when not measured. Assumed: the middle of 0.75 to 0.95."""

DRAM_SHARE_RANGE = (0.5, 0.85)
"""Between what that share is expected to lie. Assumed."""

ETA0_RANGE = (0.5, 1.5)
"""Factors on eta0 where a device file gives no range: the survey's for boards that nobody has measured."""

LAUNCH_RANGE = (0.5, 2.0)
"""Factors on launch times where a device file gives no range. Assumed."""

UNCALIBRATED = "default, uncalibrated"
"""What a profile is until somebody has timed real training steps on the board."""

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One number of a device file, kept for display; ``source`` is a tag that the file's ``sources`` explain.

    ``low`` and ``high``: between what the truth is expected to lie, where the file says so.
    """

    key: str
    value: float
    source: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Factors (low, high) on a profile's rates between which the truth is expected to lie."""

    flops_per_s: tuple[float, float] = (1.0, 1.0)
    half_flops_per_s: tuple[float, float] = (1.0, 1.0)
    memory_bytes_per_s: tuple[float, float] = (1.0, 1.0)
    launch_s: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """What the simulator knows about one kind of board in one power mode."""

    name: str
    title: str
    mode: str
    flops_per_s: float  # sustained FP32 in training a ViT at large batch, not the data-sheet peak
    half_batch: float  # b0: a batch of b runs at b / (b + b0) of that, in either precision
    memory_bytes: int  # left for training after operating system and CUDA context
    memory_bytes_per_s: float  # achievable DRAM bandwidth, not the data-sheet peak
    launch_s: float  # per kernel
    idle_w: float
    load_w: float
    cpu_cores: int
    calibration: str = UNCALIBRATED  # how far its speed can be trusted
    gpu: bool = False  # trains on a GPU, in mixed precision where asked; a CPU trains in float32 always
    half_flops_per_s: float | None = None  # the same sustained rate in mixed precision; None: not known, or none
    overlap: bool = True  # arithmetic, memory and launches run side by side, as on a GPU; else one after the other
    spread: Spread = field(default=Spread(), repr=False, compare=False)
    facts: tuple[Fact, ...] = field(default=(), repr=False, compare=False)  # for display: nothing computes from them

    def __post_init__(self) -> None:
        for name in ("flops_per_s", "memory_bytes", "memory_bytes_per_s", "idle_w", "load_w", "cpu_cores"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{self.name}: {name} must be > 0, got {value}")
        if self.half_flops_per_s is not None and not self.half_flops_per_s > 0:
            raise ValueError(f"{self.name}: half_flops_per_s must be > 0 or None, got {self.half_flops_per_s}")
        for name in ("half_batch", "launch_s"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{self.name}: {name} must be >= 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that a device file says, for display."""

    name: str
    title: str
    default_mode: str
    modes: tuple[DeviceProfile, ...]  # as the file orders them; each carries the facts of board and mode
    sources: tuple[tuple[str, str], ...]  # tag, citation
    notes: tuple[str, ...]


class _ModeForm(Form):
    peak_gflops: Positive  # FP32; on CUDA boards 2 x cores x clock
    peak_half_gflops: Positive | None = None  # FP16: of tensor cores where there are any
    cuda_cores: Positive | None = None  # those that the mode leaves on
    gpu_mhz: Positive | None = None
    cpu_cores: Positive
    cpu_mhz: Positive | None = None
    dram_gb_s: Positive
    cap_w: Positive
    load_w: Positive | None = None  # measured in training or under stress; else by load_share
    load_share: Ratio | None = None


class _IdentityForm(Form):
    modules: list[str] = Field(default_factory=list)  # NVIDIA's numbers: p3767-0005
    model: str = ""  # words of the device tree's model


class _DeviceForm(Form):
    title: str
    notes: list[str] = Field(default_factory=list)
    default_mode: str
    identity: _IdentityForm = Field(default_factory=_IdentityForm)  # by what `cosp devices probe` knows the board
    visible_mib: Positive  # what the operating system sees
    reserved_os_mib: NotNegative  # headless
    reserved_desktop_mib: NotNegative | None = None  # what a graphical desktop takes on top
    reserved_runtime_mib: NotNegative  # CUDA context and libraries
    eta0: Ratio  # share of peak that dense training at large batch sustains
    eta0_half: Ratio | None = None  # share of peak_half_gflops that the same training sustains in mixed precision
    half_batch: NotNegative
    launch_us: NotNegative  # per kernel at the board's highest CPU clock
    idle_w: Positive
    kappa: Ratio | None = None  # a ViT's speed against eta0; None: VIT_KAPPA
    dram_share: Ratio | None = None  # share of dram_gb_s that training reaches; None: DRAM_SHARE
    gpu: bool | None = None  # does it train on a GPU? None: as cuda_cores of its modes say
    overlap: bool = True
    calibration: str = Field(UNCALIBRATED, min_length=1)  # else when it was timed and how well the times are met
    modes: dict[str, _ModeForm] = Field(min_length=1)
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _half_rates_are_whole(self) -> _DeviceForm:
        given = {name for name, mode in self.modes.items() if mode.peak_half_gflops}
        if given != (set(self.modes) if self.eta0_half else set()):
            raise forms.broken("eta0_half goes with peak_half_gflops in every mode: give all of them or none")
        return self


def profile_names() -> tuple[str, ...]:
    """Return the names of the shipped boards, sorted."""
    return _files.names_in(_files.devices_folder())


def load_profile(name: str | Path, mode: str | None = None, *, desktop: bool = False) -> DeviceProfile:
    """Read a board by name, or by path to a YAML file, in ``mode`` (by name, never by number; None: its default mode).

    ``desktop``: a graphical desktop runs on it and takes its share of the memory. ConfigError when the board or the
    mode is unknown, the file is wrong, or no memory is left.
    """
    stem, form = _read(name)
    mode = form.default_mode if mode is None else mode
    if mode not in form.modes:
        raise ConfigError(f"{stem}: {forms.unknown('mode', mode, form.modes)}")
    if desktop and form.reserved_desktop_mib is None:
        raise ConfigError(f"{stem}: desktop: the board's file says nothing of one; add reserved_desktop_mib to it")
    if _free_mib(form, desktop=desktop) <= 0:
        raise ConfigError(f"{stem}: desktop: leaves no memory of {form.visible_mib.value:g} MiB; run it headless")
    return _profile(stem, form, mode, desktop=desktop)


def describe(name: str | Path) -> Description:
    """Return every mode and fact of a board with their sources; ConfigError as ``load_profile``."""
    stem, form = _read(name)
    return Description(
        name=stem,
        title=form.title,
        default_mode=form.default_mode,
        modes=tuple(_profile(stem, form, mode) for mode in form.modes),
        sources=tuple(form.sources.items()),
        notes=tuple(form.notes),
    )


def identities() -> tuple[Identity, ...]:
    """Return by what each shipped board is known."""
    return tuple(_identity(*_read(name)) for name in profile_names())


def _identity(name: str, form: _DeviceForm) -> Identity:
    return Identity(
        board=name,
        modules=frozenset(form.identity.modules),
        model=form.identity.model,
        memory_bytes=int(form.visible_mib.value * _MIB),
        modes=tuple(form.modes),
    )


def _read(name: str | Path) -> tuple[str, _DeviceForm]:
    if not _files.is_path(name) and name not in profile_names():
        raise ConfigError(forms.unknown("device", name, profile_names()) + " (or give a path ending in .yaml)")
    path = Path(name) if _files.is_path(name) else _files.devices_folder() / f"{name}.yaml"
    form = forms.read(path, _DeviceForm)
    if form.default_mode not in form.modes:
        raise ConfigError(f"{path}: default_mode: {forms.unknown('mode', form.default_mode, form.modes)}")
    _files.check_tags(_files.facts_of(form), form.sources, where=str(path))
    for mode, facts in form.modes.items():
        tagged = [(f"modes.{mode}.{key}", fact) for key, fact in _files.facts_of(facts)]
        _files.check_tags(tagged, form.sources, where=str(path))
    if _free_mib(form) <= 0:
        raise ConfigError(f"{path}: visible_mib: must exceed what is reserved, got {form.visible_mib.value}")
    return path.stem, form


def _profile(name: str, form: _DeviceForm, mode: str, *, desktop: bool = False) -> DeviceProfile:
    """Return what the file says of a mode; ConfigError if that is no board."""
    facts = form.modes[mode]
    try:
        return DeviceProfile(
            name=name,
            title=form.title,
            mode=mode,
            flops_per_s=facts.peak_gflops.value * 1e9 * form.eta0.value * _value_or(form.kappa, VIT_KAPPA),
            half_batch=form.half_batch.value,
            memory_bytes=int(_free_mib(form, desktop=desktop) * _MIB),
            memory_bytes_per_s=facts.dram_gb_s.value * 1e9 * _value_or(form.dram_share, DRAM_SHARE),
            launch_s=form.launch_us.value * 1e-6 * _cpu_slowdown(form, facts),
            idle_w=form.idle_w.value,
            load_w=_load_w(form.idle_w.value, facts),
            cpu_cores=int(facts.cpu_cores.value),
            calibration=form.calibration,
            gpu=form.gpu if form.gpu is not None else any(one.cuda_cores for one in form.modes.values()),
            half_flops_per_s=_half_flops_per_s(form, facts),
            overlap=form.overlap,
            spread=_spread(form),
            facts=tuple(_display(key, fact) for source in (form, facts) for key, fact in _files.facts_of(source)),
        )
    except (ArithmeticError, ValueError) as error:
        raise ConfigError(f"{error}, in mode {mode}") from None


def _half_flops_per_s(form: _DeviceForm, mode: _ModeForm) -> float | None:
    if form.eta0_half is None or mode.peak_half_gflops is None:
        return None
    return mode.peak_half_gflops.value * 1e9 * form.eta0_half.value * _value_or(form.kappa, VIT_KAPPA)


def _value_or(fact: FactForm | None, assumed: float) -> float:
    return fact.value if fact else assumed


def _spread(form: _DeviceForm) -> Spread:
    low, high = DRAM_SHARE_RANGE
    assumed = (low / DRAM_SHARE, high / DRAM_SHARE)
    return Spread(
        flops_per_s=_factors(form.eta0, ETA0_RANGE),
        half_flops_per_s=_factors(form.eta0_half, ETA0_RANGE),
        memory_bytes_per_s=_factors(form.dram_share, assumed),
        launch_s=_factors(form.launch_us, LAUNCH_RANGE),
    )


def _factors(fact: FactForm | None, assumed: tuple[float, float]) -> tuple[float, float]:
    """Return the fact's range as factors on its value."""
    if fact is None or not fact.value or (fact.low is None and fact.high is None):
        return assumed
    low, high = (fact.value if end is None else end for end in (fact.low, fact.high))
    return low / fact.value, high / fact.value


def _free_mib(form: _DeviceForm, *, desktop: bool = False) -> float:
    desktop_mib = form.reserved_desktop_mib.value if desktop and form.reserved_desktop_mib else 0.0
    return form.visible_mib.value - form.reserved_os_mib.value - form.reserved_runtime_mib.value - desktop_mib


def _cpu_slowdown(form: _DeviceForm, mode: _ModeForm) -> float:
    """How much slower one CPU core is than in the board's fastest mode: one thread launches all kernels. Assumed."""
    clocks = [one.cpu_mhz.value for one in form.modes.values() if one.cpu_mhz]
    return max(clocks) / mode.cpu_mhz.value if mode.cpu_mhz else 1.0


def _load_w(idle_w: float, mode: _ModeForm) -> float:
    """Watts while training: measured where known, else idle + u (cap - idle); a mode's name is only a label."""
    if mode.load_w:
        return mode.load_w.value
    share = mode.load_share.value if mode.load_share else LOAD_SHARE
    return idle_w + share * (mode.cap_w.value - idle_w)


def _display(key: str, fact: FactForm) -> Fact:
    return Fact(key=key, value=fact.value, source=fact.source, low=fact.low, high=fact.high)
