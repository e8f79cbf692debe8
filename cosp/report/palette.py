"""The colours of all pages and figures, in light and dark mode."""

from __future__ import annotations

from importlib.resources import files

# name: (light, dark). Series colours are told apart with any colour vision (after Okabe and Ito 2008) and never by hue
# alone: ramps change lightness, lines also change their dashes.
PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#22303c", "#dfe7ee"),
    "muted": ("#64727e", "#97a5b1"),
    "grid": ("#e4e9ed", "#2b3742"),
    "track": ("#edf1f4", "#232e38"),
    "surface": ("#fefefe", "#161d24"),
    "received": ("#86bce6", "#5f9fd0"),
    "scored": ("#1a9c7c", "#2fb897"),
    "trained": ("#235f99", "#3f7fc0"),
    "sent": ("#e39a33", "#eda94a"),
    "underway": ("#a9b9cc", "#4f6480"),
    "refused": ("#c4452d", "#e8694f"),
    "mean": ("#d97f1c", "#f2a648"),
    "chosen": ("#b03a78", "#e77fb3"),
    "exit0": ("#a8cbe6", "#42688a"),
    "exit1": ("#7fb2da", "#5684ad"),
    "exit2": ("#5698cb", "#6fa3d0"),
    "exit3": ("#347bb3", "#8dbfe8"),
    "exit4": ("#1f5d93", "#b4d7f5"),
    "exit5": ("#113f6b", "#dceefe"),
    "heat0": ("#eff3f7", "#1f2932"),
    "heat1": ("#dae8f3", "#22394d"),
    "heat2": ("#c2d9ed", "#264a68"),
    "heat3": ("#a5c7e4", "#2b5c84"),
    "heat4": ("#82b1d9", "#3370a1"),
    "heat5": ("#5f98ca", "#4385bb"),
    "heat6": ("#407eb6", "#619dd0"),
    "heat7": ("#28659d", "#8abae4"),
    "heat8": ("#174d80", "#bcdcf8"),
    "run0": ("#1f6cb0", "#5fa8e6"),
    "run1": ("#dd8a1f", "#f0ac52"),
    "run2": ("#12946f", "#3cc39b"),
    "run3": ("#b23b79", "#e480b4"),
    "run4": ("#cc5a14", "#ee8547"),
    "run5": ("#58aee0", "#9bd2f5"),
    "run6": ("#7d7320", "#c4b84d"),
    "run7": ("#6b7680", "#a9b4be"),
}


def css_variables(dark: bool) -> str:
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in PALETTE.items())


def look() -> str:
    """Return the style sheet of every page, with the colours in."""
    text = files("cosp.report").joinpath("look.css").read_text(encoding="utf-8")
    return text.replace("/*light*/", css_variables(dark=False)).replace("/*dark*/", css_variables(dark=True))
