"""What an installation without torch must be able to import."""

from __future__ import annotations

import subprocess
import sys


def test_planning_never_imports_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import dmpc_fast.planning.planner, dmpc_fast.objectives\n"
        "from dmpc_fast.backends import registry\n"
        "assert set(registry.available()) == set(registry.BACKENDS)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
