from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "quickstart" / "demo.py"

pytestmark = pytest.mark.processes


def test_the_quickstart_shows_run_data_log_and_a_second_start_and_ends(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=100,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    first, second = run.stdout.split("Second start: nothing is pending")
    for change in ("create-products", "add-price", "first-products", "publish-terms"):
        assert f"{change}: applied" in first
        assert change in first.split("aflamingock audit list")[1]

    assert "Spoon" in first
    assert "Nothing to do" in second
    assert "NOT as expected" not in run.stdout + run.stderr
    assert second.rstrip().endswith("----")
    assert list(tmp_path.iterdir()) == []
