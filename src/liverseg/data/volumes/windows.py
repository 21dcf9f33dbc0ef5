"""From Hounsfield units, or what else a scanner gives, to the grey of a picture."""

from collections.abc import Sequence

import numpy as np

from liverseg.data.arrays import Numbers
from liverseg.data.images import WHITE

# Centre and width in HU, as radiology sets them.
WINDOWS: dict[str, tuple[float, float]] = {
    "soft_tissue": (50, 400),
    "liver": (60, 160),
    "mediastinum": (50, 350),
    "lung": (-600, 1500),
    "bone": (400, 1800),
    "brain": (40, 80),
}
PERCENTILES = (0.5, 99.5)  # of the voxels of a volume
OFFSET = 1024  # added to HU in images of 16 bits without a window, so that air is above 0
Limits = tuple[float, float]  # values that become black and white
WindowSetting = str | Sequence[float] | None


def limits_of(window: WindowSetting, voxels: Numbers) -> Limits | None:
    """Return what becomes black and what white, in the volume's own values.

    Args:
        window: A name of :data:`WINDOWS`, ``percentiles`` of the volume, centre and width, or None
            for 16 bits without a window.
        voxels: The volume, whose percentiles may be asked for.

    Returns:
        The two values, or None where there is no window.
    """
    if window is None:
        return None
    if window == "percentiles":
        step = max(1, round((voxels.size / 2**24) ** (1 / 3)))  # of a large one, some will do
        low, high = np.percentile(voxels[::step, ::step, ::step], PERCENTILES)
        return float(low), float(max(high, low + max(1e-6, 1e-6 * abs(low))))
    centre, width = WINDOWS[window] if isinstance(window, str) else window
    return centre - width / 2, centre + width / 2


def check_window(window: object) -> WindowSetting:
    """Return a window as it is written down, or refuse it.

    Raises:
        ValueError: If it is no name, no centre with a width above 0, and not None.
    """
    if window is None or (isinstance(window, str) and window in (*WINDOWS, "percentiles")):
        return window
    if isinstance(window, list | tuple) and len(window) == 2:
        is_number = all(isinstance(one, int | float) and np.isfinite(one) for one in window)
        if is_number and window[1] > 0:
            return [float(one) for one in window]
    raise ValueError(
        f"window={window} must be {', '.join(WINDOWS)}, percentiles, [centre,width] such as "
        "[50,400], or null for 16 bits without a window"
    )


def is_same_window(one: WindowSetting, other: WindowSetting) -> bool:
    """Tell whether two windows show the same, such as ``soft_tissue`` and [50, 400]."""
    if "percentiles" in (one, other):
        return one == other
    return limits_of(one, np.empty(0)) == limits_of(other, np.empty(0))


def grey(values: Numbers, limits: Limits | None) -> Numbers:
    """Return values as the grey of a picture of the same shape.

    With limits, uint8: the lower one is 0, the upper one 255, what lies beyond is clipped, and
    halves are rounded up. Without, uint16: HU + 1024, rounded and clipped.
    """
    numbers = np.asarray(values, np.float32)
    shown: Numbers
    if limits is None:
        shown = np.clip(np.floor(numbers + (OFFSET + 0.5)), 0, WHITE).astype(np.uint16)
        return shown
    low, high = limits
    scaled = (numbers - np.float32(low)) * np.float32(255 / (high - low))
    shown = np.floor(np.clip(scaled, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return shown


def window_text(window: WindowSetting, limits: Limits | None = None) -> str:
    """Return what table and model card say of a window, such as ``soft_tissue (-150 to 250)``.

    Args:
        window: As of :func:`limits_of`.
        limits: What that returned of a volume; None says it of volumes in general.
    """
    if limits is None and window == "percentiles":
        return "percentiles of each volume"
    limits = limits or limits_of(window, np.empty(0))
    if limits is None:
        return f"none (value + {OFFSET}, 16 bits)"
    name = window if isinstance(window, str) else "centre and width"
    return f"{name} ({limits[0]:g} to {limits[1]:g})"
