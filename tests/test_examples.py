"""The examples run as they are."""

import re
from pathlib import Path

from tests.commands import ROOT, in_process


def test_the_callback_in_an_ordinary_program(tmp_path: Path) -> None:
    done = in_process(ROOT / "examples" / "callback.py", tmp_path)
    assert done.code == 0, done.output
    assert len(re.findall(r"^\[ +\d/3\]", done.output, re.MULTILINE)) == 3
    accuracy = re.search(r"accuracy\W+([01]\.\d+)", done.output)
    assert accuracy is not None, done.output
    assert 0.9 < float(accuracy[1]) <= 1


def test_the_functional_form(tmp_path: Path) -> None:
    done = in_process(ROOT / "examples" / "functional.py", tmp_path)
    assert done.code == 0, done.output
    found = dict(re.findall(r"^((?:un)?\w* ?[AS]NN): (\d\.\d+)$", done.output, re.MULTILINE))
    accuracy = {name: float(value) for name, value in found.items()}
    assert set(accuracy) == {"ANN", "uncalibrated SNN", "calibrated SNN"}
    assert accuracy["ANN"] > 0.9
    assert accuracy["calibrated SNN"] >= accuracy["uncalibrated SNN"] - 0.02
    assert accuracy["calibrated SNN"] > accuracy["ANN"] - 0.1
    assert "Convertible: 3 sites become neurons, nothing left analog" in done.output
    assert (tmp_path / "snn.ckpt").is_file()
