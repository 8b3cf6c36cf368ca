"""``python -m aflamingock`` is the command ``aflamingock``."""

from __future__ import annotations

import sys

from .cli import run_process

if __name__ == "__main__":
    sys.exit(run_process())
