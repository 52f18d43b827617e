"""Start a program: find its conf, then run Hydra on one process or on the first of several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException

from snn_lightning.cli.processes import Job, Leader, processes
from snn_lightning.errors import SettingsError

PACKAGE = Path(__file__).parents[1]


def start(job: Job, config_name: str) -> None:
    """Run a job as the command line says, or a sweep of jobs.

    Args:
        job: takes a composed config, returns the metric for Hydra's sweeper.
        config_name: the primary config in `conf/`.
    """
    try:
        conf = conf_folder(PACKAGE)
        check_choices(sys.argv[1:], conf)
    except SettingsError as error:
        sys.exit(f"Error: {error}")
    program = hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)
    group = processes()
    if group is None:
        program(job)()
    elif group.rank:
        group.follow(job)
    else:
        with group.leading():
            program(Leader(job, group))()


def check_choices(arguments: Sequence[str], conf: Path) -> None:
    """Refuse what chooses no file of a group, such as energy=null: of it Hydra only gives a traceback.

    Args:
        arguments: of the command line.
        conf: the folder of the YAML groups.

    Raises:
        SettingsError: naming the group and what there is to choose.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        group, _, given = argument.lstrip("+").partition("=")
        if not (given and group and (conf / group).is_dir()):
            continue
        try:
            value = parser.parse_override(argument).value()
        except HydraException:
            continue  # Hydra says what is wrong with its form
        chosen = value.list if isinstance(value, ChoiceSweep) else [value]
        if any(isinstance(one, int | float | None) for one in chosen):
            known = ", ".join(sorted(path.stem for path in (conf / group).glob("*.yaml")))
            raise SettingsError(f"{group}={given} is no choice: take one of {known}, or leave {group} out")


def conf_folder(package: Path) -> Path:
    """Return the folder of the YAML groups.

    Args:
        package: the folder of the installed package; a wheel has `conf/` in it, a clone of the repository has
            it beside.

    Raises:
        SettingsError: it is in neither place.
    """
    places = [package / "conf", package.parent / "conf"]
    for place in places:
        if (place / "calibrate.yaml").is_file():
            return place
    raise SettingsError(
        f"The YAML files of snn_lightning are neither in '{places[0]}' nor in '{places[1]}': this "
        "installation is incomplete. In a clone of the repository run `pip install .` or, to work on it, "
        "`pip install -e .`."
    )
