"""The console scripts, from a wheel and from the repository, and where they find their YAML files."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from snn_lightning.cli import jobs
from snn_lightning.cli.main import PACKAGE, check_choices, conf_folder
from snn_lightning.errors import SettingsError
from tests.commands import MODEL, ROOT, in_new_interpreter
from tests.composing import CONF

QUICK = [
    *(override for override in MODEL if "epochs" not in override),
    "trainer.max_epochs=1",
    "data.train_images=64",
    "data.calibration_images=16",
    "data.test_images=20",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this repository."""
    folder = tmp_path_factory.mktemp("dist")
    built = in_new_interpreter(ROOT, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert built.code == 0, built.output
    (path,) = folder.iterdir()
    return path


@pytest.fixture
def installed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the installed wheel in it, which new processes import."""
    place = tmp_path / "site"
    command = ("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(place), str(wheel))
    done = in_new_interpreter(tmp_path, *command)
    assert done.code == 0, done.output
    monkeypatch.setenv("PYTHONPATH", str(place))
    return place


def test_a_wheel_holds_the_package_and_its_yaml_files_and_no_other_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"snn_lightning"}
    packed = {name.removeprefix("snn_lightning/conf/") for name in names if name.endswith(".yaml")}
    assert packed == {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    assert {"snn_lightning/py.typed", "snn_lightning/spiking/kernels/cpu.c"} <= set(names)
    assert {f"snn_lightning/report/template/{name}" for name in ("page.html.j2", "style.css")} <= set(names)


def test_ctrl_c_ends_a_program_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: DictConfig) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "is_left_out", interrupted)
    with pytest.raises(SystemExit) as ended:
        jobs.run(lambda config: None, OmegaConf.create({}))
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("Interrupted. What was finished is kept: the same command")


OTHER = """
import hydra
import snn_lightning

@hydra.main(version_base="1.3", config_path=None, config_name="mine")
def main(config):
    print(snn_lightning.__file__, config.model.name, config.pipeline.weights.iterations, config.T)

main()
"""


PROGRAMS = """
import json, os, runpy, sys
for folder, *command in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        if error.code:
            raise
"""
"""Runs one after the other in one interpreter, as each import of the package takes seconds."""


def test_an_installed_wheel_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    empty, mine = tmp_path / "empty", tmp_path / "mine"
    (mine / "pipeline").mkdir(parents=True)
    (mine / "pipeline" / "own.yaml").write_text("defaults: [baseline]\nrounding: floor\n")
    (mine / "mine.yaml").write_text(
        "defaults: [calibrate, _self_]\nT: 3\nhydra: {searchpath: ['pkg://snn_lightning.conf']}\n"
    )
    (mine / "other.py").write_text(OTHER)
    train, calibrate = (str(installed / "bin" / f"snn-{name}") for name in ("train", "calibrate"))
    own = ["--config-dir", str(mine), "pipeline=own", "T=2"]
    programs = [
        [str(empty), train, *QUICK, "hydra.run.dir=train"],
        [str(empty), calibrate, *own, *QUICK, "hydra.run.dir=."],
        [str(mine), "other.py", "--config-dir", ".", "model=resnet20"],
    ]
    done = in_new_interpreter(empty, "-c", PROGRAMS, json.dumps(programs))
    assert done.code == 0, done.output
    assert (empty / "train" / "train.log").exists()
    assert "Using the ANN pretrained earlier" in done.output
    assert done.results["config"]["pipeline"]["rounding"] == "floor"
    assert f"{installed / 'snn_lightning' / '__init__.py'} resnet20 100 3" in done.output.splitlines()


def test_a_clone_has_its_yaml_files_at_the_top() -> None:
    assert conf_folder(PACKAGE) == CONF


def test_without_yaml_files_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"neither in '.*/snn_lightning/conf' nor in .*pip install \."):
        conf_folder(tmp_path / "snn_lightning")


@pytest.mark.parametrize("argument", ["energy=null", "+energy=NULL", "energy=5", "energy=int8,null"])
def test_what_chooses_no_file_of_a_group(argument: str) -> None:
    with pytest.raises(
        SettingsError, match=r"is no choice: take one of float16, float32, int8, or leave energy"
    ):
        check_choices(["T=4", argument], CONF)


def test_choices_and_settings_are_left_to_hydra() -> None:
    given = ["energy=int8", "energy=int8,float16", "logger=[csv,wandb]", "energy.mac=1", "network=null"]
    check_choices(
        [*given, "~experiment", "-m", "--cfg=job", "energy=", "energy=[int8", "=null", "energy={}", "T=4"],
        CONF,
    )
