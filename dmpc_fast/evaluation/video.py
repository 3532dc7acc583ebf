"""Pictures of an episode as a film."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = (".mp4", ".gif")
#: Time between a film's pictures: shorter is more than the eye sees and than GIF players obey.
SHORTEST_S, LONGEST_S = 0.02, 0.06
#: GIF counts time in hundredths of a second.
GIF_TICK_S = 0.01


def choose_renderer() -> None:
    """Let MuJoCo draw without a screen: EGL where it works, else OSMesa, unless MUJOCO_GL says.

    Call it before anything is rendered. Raises OSError where there is no way to draw.
    """
    if os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY") or sys.platform != "linux":
        return
    problems = []
    for name in ("egl", "osmesa"):
        problem = _try_renderer(name)
        if problem is None:
            os.environ["MUJOCO_GL"] = name
            return
        problems.append(f"{name}: {problem}")
    raise OSError(
        f"cannot draw without a screen ({'; '.join(problems)}): install libegl1 or libosmesa6, or "
        "set MUJOCO_GL"
    )


def write_video(path: Path, frames: Sequence[np.ndarray], period_s: float) -> None:
    """Write RGB pictures (height, width, 3) uint8, `period_s` seconds apart, in real time.

    path: ends in .mp4 or .gif. Pictures are dropped so that the rest play at a speed that players
    keep. The file appears when it is whole. Raises ValueError for another ending and for no
    pictures.
    """
    import imageio.v2 as imageio

    if path.suffix not in FORMATS:
        raise ValueError(f"a video's name must end in {' or '.join(FORMATS)}, got {path}")
    if not frames:
        raise ValueError("there are no pictures to film: the episode was run without film=True")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ModuleNotFoundError("writing .mp4 needs imageio-ffmpeg", name="imageio")
    stride = _stride(period_s)
    interval_s = period_s * stride
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    gif = path.suffix == ".gif"
    timing: dict[str, Any] = (
        {"duration": 1e3 * interval_s, "loop": 0} if gif else {"fps": 1 / interval_s}
    )
    try:
        imageio.mimwrite(partial, [_even(frame) for frame in frames[::stride]], **timing)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _stride(period_s: float) -> int:
    """Which share of the pictures to show: an interval that GIF can express, if there is one."""
    first = max(1, math.ceil(SHORTEST_S / period_s - 1e-6))
    last = max(first, math.floor(LONGEST_S / period_s + 1e-6))

    def rounding(stride: int) -> float:
        ticks = stride * period_s / GIF_TICK_S
        return round(abs(round(ticks) / ticks - 1), 6)

    return min(range(first, last + 1), key=rounding)


def _even(frame: np.ndarray) -> np.ndarray:
    """Video codecs want even sides."""
    height, width = frame.shape[:2]
    return frame[: height // 2 * 2, : width // 2 * 2]


def _try_renderer(name: str) -> str | None:
    """Why MuJoCo cannot draw by `name`, tried in a process of its own since a choice is final."""
    import subprocess

    code = (
        "import mujoco; m = mujoco.MjModel.from_xml_string('<mujoco/>'); "
        "r = mujoco.Renderer(m, 8, 8); r.update_scene(mujoco.MjData(m)); r.render()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"
