"""Metrics of a run: JSON lines, TensorBoard scalars and the progress bar."""

from __future__ import annotations

import json
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Metrics:
    """Writes scalars of one run; `resume_at` forgets what was logged after the checkpoint."""

    def __init__(self, folder: Path, total: int, *, resume_at: int, progress: bool) -> None:
        self._path = folder / "metrics.jsonl"
        self._keep_until(resume_at)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_at + 1)
        self._bar = tqdm(
            total=total, initial=resume_at, unit="step", disable=not progress, dynamic_ncols=True
        )

    def _keep_until(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the line that the kill cut short
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        os.replace(temporary, self._path)

    def log(self, step: int, stage: str, stage_step: int, scalars: dict[str, float]) -> None:
        """step counts over all stages, stage_step within one."""
        row = {"step": step, "stage": stage, "stage_step": stage_step, **scalars}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            self._board.add_scalar(f"{stage}/{name}", value, step)

    def advance(self, description: str) -> None:
        self._bar.update()
        if description:
            self._bar.set_description(description, refresh=False)

    def close(self) -> None:
        self._bar.close()
        self._board.close()
        self._file.close()
