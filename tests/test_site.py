"""The documentation builds as a site, and what is wrong in it fails the build."""

import os
import re
import runpy
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
    "docs/static/*",
    "docs/pictures/*",
    "examples/*.*",
    "benchmarks/*.md",
    "conf/**/*.yaml",
)

pytest.importorskip("myst_nb", reason="needs the extra docs")


BROKEN = {
    "docs/budget.md": ("[gone](no_such_page.md)", "no_such_page.md"),
    "README.md": ("[gone](docs/settings.md#no-such-heading)", "no-such-heading"),
    "docs/data.md": ("![gone](pictures/no_such_picture.png)", "no_such_picture.png"),
}
"""By page: a link that leads nowhere, and what the build says of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pages, with broken links in it, and the site that `make docs` makes of it."""
    folder = tmp_path_factory.mktemp("clone")
    for path in (path for pattern in SOURCES for path in ROOT.glob(pattern)):
        (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    for page, (link, _) in BROKEN.items():
        with (folder / page).open("a") as file:
            file.write(f"\n{link}\n")
    makefile = (ROOT / "Makefile").read_text()
    (command,) = re.findall(r"^docs:.*\n\t\$\(BIN\)/python (.*)$", makefile, re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, *command.split()]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    (folder / "status").write_text(str(done.returncode))
    (folder / "errors").write_text(done.stderr)
    return folder


def test_broken_links_fail_the_build_and_nothing_else_is_wrong(folder: Path) -> None:
    errors = (folder / "errors").read_text()
    assert (folder / "status").read_text() == "1"
    for page, (_, missing) in BROKEN.items():
        assert re.search(rf"/{page}:\d+: WARNING: .*{missing}", errors), errors
    assert len(re.findall("WARNING: |ERROR: ", errors)) == len(BROKEN), errors


def test_the_site_opens_at_the_readme(folder: Path) -> None:
    page = (folder / "site" / "html" / "index.html").read_text()
    assert "keeps most of its accuracy at few time steps" in page
    for other in re.findall(r'href="([^"#:]+\.html)[#"]', page):
        assert (folder / "site" / "html" / other).exists(), other


def test_the_tutorial_has_run_to_its_end(folder: Path) -> None:
    page = (folder / "site" / "html" / "docs" / "tutorial.html").read_text()
    found = re.findall(r"^([\w ]+)(?:, T=\d)?: (\d+\.\d)%", re.sub(r"<[^>]+>", "", page), re.MULTILINE)
    accuracies = {label: float(percent) for label, percent in found}
    assert accuracies["uncalibrated"] < accuracies["ACP"]
    assert accuracies["LCP in the Trainer"] > 90
    assert page.count('<img alt="../_images') == 4


def test_every_public_name_is_in_the_reference(folder: Path) -> None:
    page = (folder / "site" / "html" / "docs" / "api" / "snn_lightning.html").read_text()
    text = re.sub(r"<[^>]+>", "", page)
    assert set(snn_lightning.__all__) <= set(
        re.findall(r"^(?:class)?\s*snn_lightning\.(\w+)", text, re.MULTILINE)
    )


def test_every_name_of_a_public_package_is_in_the_reference(folder: Path) -> None:
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    pages = "".join(path.read_text() for path in (folder / "docs" / "api").glob("*.rst"))
    explained = set(
        re.findall(r"^\.\. (?:auto\w+|py:data):: snn_lightning\.[\w.]*?(\w+)$", pages, re.MULTILINE)
    )
    names = {name for module in reference["modules"]() for name in reference["public"](module)}
    assert len(names) > 2 * len(snn_lightning.__all__)
    assert names <= explained
