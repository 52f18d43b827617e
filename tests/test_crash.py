"""A crash of the process says in which test it happened."""

import subprocess
import sys
from pathlib import Path

SETTINGS = Path(__file__).parents[1] / "pyproject.toml"


def test_a_crash_names_its_test(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("import os\n\ndef test_that_dies():\n    os.abort()\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", SETTINGS, "--rootdir", tmp_path, test]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "in test_that_dies" in done.stderr
