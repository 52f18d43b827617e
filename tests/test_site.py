"""The documentation builds as a site, and what is wrong in it fails the build."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import snn_lightning

ROOT = Path(__file__).parents[1]
SOURCES = (
    "*.md",
    "LICENSE",
    "docs/*.*",
    "docs/pictures/*",
    "examples/*.*",
    "benchmarks/*.md",
    "conf/**/*.yaml",
)

pytest.importorskip("myst_nb", reason="needs the extra docs")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does."""
    (command,) = re.findall(
        r"^docs:.*\n\t\$\(BIN\)/python (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, *command.split()]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pages with the site built in it; the tutorial is run."""
    folder = tmp_path_factory.mktemp("clone")
    for path in (path for pattern in SOURCES for path in ROOT.glob(pattern)):
        (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_opens_at_the_readme(folder: Path) -> None:
    page = (folder / "site" / "index.html").read_text()
    assert "keeps most of its accuracy at few time steps" in page
    for other in re.findall(r'href="([^"#:]+\.html)[#"]', page):
        assert (folder / "site" / other).exists(), other


def test_the_tutorial_has_run_to_its_end(folder: Path) -> None:
    page = (folder / "site" / "docs" / "tutorial.html").read_text()
    accuracies = dict(re.findall(r"^(\w+): (\d+\.\d)%", re.sub(r"<[^>]+>", "", page), re.MULTILINE))
    assert float(accuracies["ACP"]) > float(accuracies["uncalibrated"])
    assert page.count('<img alt="../_images') == 4
    assert "{&#39;accuracy&#39;: " in page  # of the last cell


def test_every_public_name_is_in_the_reference(folder: Path) -> None:
    page = (folder / "site" / "docs" / "api" / "snn_lightning.html").read_text()
    explained = set(re.findall(r'id="snn_lightning\.(\w+)"', page))
    assert set(snn_lightning.__all__) <= explained


def test_every_name_of_a_public_package_is_in_the_reference_once(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    pages = "".join(path.read_text() for path in (folder / "docs" / "api").glob("*.rst"))
    explained = re.findall(r"^\.\. (?:auto\w+|py:data):: snn_lightning\.[\w.]*?(\w+)$", pages, re.MULTILINE)
    for module in reference.modules():
        assert set(reference.public(module)) <= set(explained), module.__name__


def test_broken_links_fail_the_build(folder: Path) -> None:
    wrong = {
        "docs/budget.md": "[gone](no_such_page.md)",
        "README.md": "[gone](docs/settings.md#no-such-heading)",
        "docs/data.md": "![gone](pictures/no_such_picture.png)",
    }
    for page, link in wrong.items():
        with (folder / page).open("a") as file:
            file.write(f"\n{link}\n")
    done = build(folder)
    assert done.returncode == 1
    for page, found in zip(wrong, ("no_such_page", "no-such-heading", "no_such_picture"), strict=True):
        assert re.search(rf"/{page}:\d+: WARNING: .*{found}", done.stderr), done.stderr
