"""Python programs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path


def python(
    *arguments: object, folder: Path | None = None, given: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Output and exit code of Python with these arguments, on one thread; `given` is its standard input."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
    )
