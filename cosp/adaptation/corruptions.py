"""Eight corruptions of images in five severities, "-C style": after Hendrycks & Dietterich 2019 (arXiv:1903.12261).

They are not theirs: numpy alone, any height and width (8x8 too) and any number of channels, seeded, and lengths told as
shares of the image's side, so that they mean alike on small and large ones. How hard each is, the clean model's
accuracy says. What comes out has 256 levels, as a camera's would.
"""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import numpy as np

LEVELS = 255
SEVERITIES = (1, 2, 3, 4, 5)
_FINE = 8  # points a pixel and direction at which a kernel's shape is asked

Rule = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""(images (N, H, W, C) in 0..1, severity 1..5, generator) -> the same, not yet clipped."""


def corrupt(
    images: np.ndarray, name: str, severity: int, rng: np.random.Generator, *, white: float = 1.0
) -> np.ndarray:
    """Return ``images`` (N, H, W, C), where ``white`` is white, as float32 of the same range, corrupted.

    ``ValueError`` for an unknown name, another severity than 1..5 or another shape.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"corruption must be one of {', '.join(CORRUPTIONS)}, got {name!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be a whole number from 1 to 5, got {severity!r}")
    if images.ndim != 4:
        raise ValueError(f"images must be (N, H, W, C), got {images.shape}")
    changed = CORRUPTIONS[name](images.astype(np.float64) / white, severity, rng)
    levels = np.rint(np.clip(changed, 0.0, 1.0) * LEVELS)
    return np.asarray(levels * (white / LEVELS), dtype=np.float32)


def gaussian_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise to every value."""
    return np.asarray(x + rng.normal(0.0, _of((0.10, 0.18, 0.26, 0.38, 0.54), severity), x.shape))


def impulse_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Set a share of the pixels to black or white."""
    share = _of((0.04, 0.09, 0.16, 0.25, 0.38), severity)
    drawn = rng.random((*x.shape[:3], 1))
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, x))


def defocus(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur with a disc."""
    radius = _of((0.05, 0.075, 0.10, 0.14, 0.19), severity) * _side(x)

    def inside(dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        return np.asarray(dy**2 + dx**2 <= radius**2)

    return _blurred(x, _kernel(inside, radius))


def motion_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur along a line, each image in a direction of its own out of eight."""
    half = _of((0.08, 0.12, 0.17, 0.23, 0.31), severity) * _side(x)
    turns = rng.integers(8, size=len(x))
    found = np.empty_like(x)
    for turn in np.unique(turns):
        angle = np.pi * turn / 8
        found[turns == turn] = _blurred(x[turns == turn], _kernel(_line(angle, half), half))
    return found


def contrast(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Draw every value towards its image's mean."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return np.asarray(mean + _of((0.6, 0.45, 0.32, 0.2, 0.11), severity) * (x - mean))


def brightness(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add light: what was bright is clipped."""
    return x + _of((0.12, 0.24, 0.36, 0.5, 0.65), severity)


def pixelate(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Average over fewer, larger pixels."""
    share = _of((0.75, 0.6, 0.45, 0.33, 0.25), severity)
    rows, columns = (_through(size, max(1, round(share * size))) for size in x.shape[1:3])
    return np.asarray(np.einsum("ah,nhwc,bw->nabc", rows, x, columns, optimize=True))


def patch(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Cover a grey square somewhere in each image."""
    side = _of((0.25, 0.375, 0.5, 0.625, 0.75), severity)
    found = x.copy()
    height, width = (max(1, round(side * size)) for size in x.shape[1:3])
    tops = rng.integers(x.shape[1] - height + 1, size=len(x))
    lefts = rng.integers(x.shape[2] - width + 1, size=len(x))
    for image, top, left in zip(found, tops.tolist(), lefts.tolist()):
        image[top : top + height, left : left + width] = 0.5
    return found


CORRUPTIONS: Dict[str, Rule] = {
    "gaussian_noise": gaussian_noise,
    "impulse_noise": impulse_noise,
    "defocus": defocus,
    "motion_blur": motion_blur,
    "contrast": contrast,
    "brightness": brightness,
    "pixelate": pixelate,
    "patch": patch,
}


def _of(values: Tuple[float, ...], severity: int) -> float:
    return values[severity - 1]


def _side(x: np.ndarray) -> int:
    return int(min(x.shape[1:3]))


def _kernel(inside: Callable[[np.ndarray, np.ndarray], np.ndarray], reach: float) -> np.ndarray:
    """Return how much of each pixel lies ``inside`` a shape around the middle one, (odd, odd), summing to one."""
    pixels = int(np.ceil(reach))
    fine = (np.arange((2 * pixels + 1) * _FINE) + 0.5) / _FINE - pixels - 0.5
    covered = inside(fine[:, None], fine[None, :]).astype(np.float64)
    shares = covered.reshape(2 * pixels + 1, _FINE, 2 * pixels + 1, _FINE).mean(axis=(1, 3))
    return np.asarray(shares / shares.sum())


def _blurred(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return ``x`` averaged by ``kernel``; beyond its edges it goes on as at them."""
    reach = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    found = np.zeros_like(x)
    for i, j in np.argwhere(kernel > 0).tolist():
        found += kernel[i, j] * padded[:, i : i + x.shape[1], j : j + x.shape[2]]
    return found


def _line(angle: float, half: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return what tells whether points lie on a line through the middle, a pixel thick and twice ``half`` long."""
    sine, cosine = np.sin(angle), np.cos(angle)

    def inside(dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        return np.asarray((np.abs(along) <= half) & (np.abs(across) <= 0.5))

    return inside


def _through(size: int, few: int) -> np.ndarray:
    """Return the matrix (size, size) that averages ``size`` pixels over ``few`` of equal width, and spreads those."""
    edges = np.linspace(0, size, few + 1)
    pixel = np.arange(size)
    overlap = np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, None)
    down = overlap / overlap.sum(axis=1, keepdims=True)
    return np.asarray((overlap / overlap.sum(axis=0)).T @ down)
