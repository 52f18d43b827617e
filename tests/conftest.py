from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from tests.commands import ACP, MODEL, Finished, run
from tests.composing import CONF

# The order of sums, and with it the last bit, does not depend on the machine's number of cores.
torch.set_num_threads(1)
# Hydra reads some twenty files for each config; where there is libyaml that takes a tenth of the time.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs under test keep pretrained ANNs, so that only the first of them trains."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`train.py`, finished."""
    overrides = [*MODEL, "data.test_images=120"]
    return run(tmp_path_factory.mktemp("trained"), *overrides, cache=cache, script="train.py")


@pytest.fixture(scope="session")
def calibrated(trained: Finished, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`calibrate.py pipeline=acp`, finished; its ANN is that of `trained`."""
    return run(tmp_path_factory.mktemp("calibrated"), *ACP, cache=cache)


@pytest.fixture
def hydra(tmp_path: Path) -> Iterator[Path]:
    """Hydra, ready to compose; yields a folder for results."""
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        yield tmp_path
    GlobalHydra.instance().clear()
