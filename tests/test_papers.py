"""The sweeps of the papers' tables, and what docs/papers.md says of them."""

import ast
import json
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from snn_lightning import ACP, LCP, MMSE, Baseline, Max, Opt, Percentile
from snn_lightning.calibration import Bias, Potential, Weights
from snn_lightning.cli.sweeps import any_describes
from tests.commands import ROOT, Finished, in_process, run
from tests.composing import composed, group

PAGE = ROOT / "docs" / "papers.md"
SEEDS = [0, 1, 2, 3, 4]
"""PC: "from 5 runs"."""

BASELINE, LIGHT, ADVANCED = "baseline_paper", "lcp_paper", "acp_paper"

Jobs = list[dict[str, Any]]


def jobs(**axes: list[Any]) -> Jobs:
    """Every combination; a name of several keys, as `model__pipeline`, has tuples of values."""
    found = []
    for values in product(*axes.values()):
        job: dict[str, Any] = {}
        for keys, value in zip(axes, values, strict=True):
            parts = keys.split("__")
            job |= dict(zip(parts, value if len(parts) > 1 else [value], strict=True))
        found.append(job)
    return found


# (a) and (b): ANNs without batch norm, in the order of the rows; (c) has one of them again.
WITHOUT_BN = [
    (BASELINE, "max_layer", "floor"),
    (BASELINE, "max_layer", "bias"),
    (BASELINE, "mmse_layer", "floor"),
    (BASELINE, "mmse_layer", "bias"),
    (BASELINE, "percentile_layer", "bias"),
    (BASELINE, "mmse", "bias"),
]
# (c), (d) and (e): ANNs with batch norm.
WITH_BN = [
    (BASELINE, "mmse_layer", "bias"),
    (LIGHT, "max_layer", "bias"),
    (LIGHT, "percentile_layer", "bias"),
    (LIGHT, "mmse_layer", "bias"),
    (LIGHT, "mmse", "bias"),
    (ADVANCED, "max_layer", "bias"),
    (ADVANCED, "percentile_layer", "bias"),
    (ADVANCED, "mmse_layer", "bias"),
    (ADVANCED, "mmse", "bias"),
]
IMAGENET_WITH_BN = ["resnet34", "vgg16_bn", "mobilenet", "mnasnet", "regnetx_4gf"]
EVERY = [BASELINE, LIGHT, ADVANCED]
SWEEPS: dict[str, Jobs] = {
    "pc_table1": [
        job
        for models, methods in (
            (["vgg16", "resnet34_no_bn"], WITHOUT_BN),
            (["vgg16_bn", "resnet34"], WITH_BN),
        )
        for job in jobs(model=models, pipeline__threshold__rounding=methods, T=[16, 32], seed=SEEDS)
    ],
    "pc_table2": [
        job
        for models, pipelines in (
            (["resnet34_no_bn", "vgg16"], [BASELINE, LIGHT]),
            (IMAGENET_WITH_BN, EVERY),
        )
        for job in jobs(model=models, pipeline=pipelines, T=[16, 32, 64, 128, 256, 2048], seed=SEEDS)
    ],
    "pc_table3": jobs(
        data=["cifar10", "cifar100"],
        model=["resnet20", "vgg16_bn"],
        pipeline=EVERY,
        T=[4, 8, 16, 32, 512],
        seed=SEEDS,
    ),
    "pc_table4": jobs(model=["retinanet", "faster_rcnn"], pipeline=EVERY, T=[32, 64, 128, 256]),
    "pc_table5": [
        job
        for trainer, steps in (
            ("gpu", [LIGHT, "potential_paper", "weights_paper"]),
            ("cpu", [LIGHT, "potential_paper"]),
        )
        for job in jobs(
            model__data=[("vgg16_bn", "cifar100"), ("mobilenet", "imagenet")],
            trainer=[trainer],
            pipeline=steps,
            T=[64],
            seed=SEEDS,
        )
    ],
    "pc_space": jobs(
        model=["resnet34", "mobilenet"],
        pipeline=[LIGHT, "potential_paper", "weights_paper"],
        T=[64],
        seed=[0],
    ),
    "pc_table6": [
        {"data.calibration_images": images, **job}
        for pipeline, samples in ((LIGHT, [32, 64, 128, 256]), (ADVANCED, [128, 256, 512, 1024]))
        for images in samples
        for job in jobs(model=["resnet34"], pipeline=[pipeline], T=[64], seed=SEEDS)
    ],
    "pc_table7": jobs(
        model=["resnet34"],
        pipeline=[ADVANCED],
        data_source=["real", "synthetic"],
        T=[16, 32, 64, 128],
        seed=SEEDS,
    ),
    "pc_fig2": jobs(model=["vgg16", "vgg16_bn"], pipeline=["max_act"], T=[16]),
    "pc_fig4": jobs(model=["vgg16_bn"], pipeline=[BASELINE], T=[256]),
    "pc_fig5": jobs(model=IMAGENET_WITH_BN, pipeline=EVERY, T=[32]),
    "pc_fig6": jobs(model=["vgg16_bn"], pipeline=[LIGHT], T=[64]),
    "fl_table8": [
        {"pipeline.convert_avg_pool": converted, **job}
        for converted in (True, False)
        for job in jobs(model=["vgg16_bn", "resnet34"], pipeline=[LIGHT], T=[32])
    ],
    "fl_table9": [
        {"pipeline.convert_avg_pool": True, **job}
        for models, pipelines in (
            (["resnet20_deep_no_bn", "vgg16"], ["opt", LIGHT]),
            (["resnet20_deep", "vgg16_bn", "mobilenet"], ["opt", LIGHT, ADVANCED]),
        )
        for job in jobs(
            data=["cifar10", "cifar100"], model=models, pipeline=pipelines, T=[32, 64, 128, 256, 2048]
        )
    ],
}
"""By experiment the cells of its table that are runs of the papers' authors."""

DATA = {
    "imagenet": [
        "pc_table1",
        "pc_table2",
        "pc_space",
        "pc_table6",
        "pc_table7",
        "pc_fig2",
        "pc_fig4",
        "pc_fig5",
        "pc_fig6",
        "fl_table8",
    ],
    "cifar10": ["pc_table3", "pc_table5", "fl_table9"],
    "coco": ["pc_table4"],
}
"""Where an axis doesn't say."""

EXPERIMENTS = pytest.mark.parametrize("name", list(SWEEPS))


def test_every_experiment_is_here() -> None:
    recipes = ["cifar_bn", "cifar_no_bn", "imagenet"]
    of_papers = re.compile(r"(pc|fl)_(table\d+|fig\d+|space)")
    assert [name for name in group("experiment") if of_papers.fullmatch(name)] == sorted(SWEEPS)
    assert set(recipes) <= set(group("experiment"))
    assert sorted(name for names in DATA.values() for name in names) == sorted(SWEEPS)


def sweep_of(config: DictConfig) -> Jobs:
    """The jobs that Hydra starts, without those that `leave_out` names."""
    parser = OverridesParser.create()
    axes = [f"{key}={values}" for key, values in config.hydra.sweeper.params.items()]
    (batch,) = BasicSweeper.split_arguments(parser.parse_overrides(axes), None)
    found = [
        {override.key_or_group: override.value() for override in parser.parse_overrides(job)} for job in batch
    ]
    left_out = OmegaConf.to_container(config.leave_out)
    return [job for job in found if not any_describes(left_out, job.get)]


def counted(sweep: Jobs) -> Counter[str]:
    return Counter(json.dumps(job, sort_keys=True) for job in sweep)


@EXPERIMENTS
def test_the_axes_of_each_sweep(hydra: Path, name: str) -> None:
    config = compose("calibrate", [f"experiment={name}"], return_hydra_config=True)
    assert config.hydra.mode == RunMode.MULTIRUN
    expected = [
        {"pipeline.rounding" if key == "rounding" else key: value for key, value in job.items()}
        for job in SWEEPS[name]
    ]
    assert counted(sweep_of(config)) == counted(expected)
    assert max(counted(expected).values()) == 1
    choices = config.hydra.runtime.choices
    assert name in DATA[choices["data"]]
    assert config.get("ann_seed") == (0 if "seed" in expected[0] else config.seed)


def test_the_numbers_of_jobs_are_those_of_the_tables() -> None:
    # Rows of the authors x T x seeds, counted in the papers.
    assert {name: len(sweep) for name, sweep in SWEEPS.items()} == {
        "pc_table1": (6 + 9) * 2 * 2 * 5,
        "pc_table2": (2 + 3 + 2 + 3 + 3 + 3 + 3) * 6 * 5,
        "pc_table3": 6 * 2 * 5 * 5,
        "pc_table4": 2 * 3 * 4,
        "pc_table5": (12 - 2) * 5,
        "pc_space": 2 * 3,
        "pc_table6": (4 + 4) * 5,
        "pc_table7": 2 * 4 * 5,
        "pc_fig2": 2,
        "pc_fig4": 1,
        "pc_fig5": 5 * 3,
        "pc_fig6": 1,
        "fl_table8": 2 * 2,
        "fl_table9": (2 + 3 + 2 + 3 + 3) * 2 * 5,
    }


@pytest.mark.parametrize(
    ("name", "overrides", "expected", "images"),
    [
        (
            "pc_table1",
            ["pipeline=acp_paper", "threshold=percentile_layer", "pipeline.rounding=bias", "T=32", "seed=3"],
            ACP(
                32,
                threshold=Percentile("layer", percentile=99.99),
                rounding="bias",
                calibrate_readout=False,
                weights=Weights(iterations=5000, learning_rate=1e-5, momentum=0.9, images=1024),
                potential=Potential(images=128, shrink=False),
                augment=None,
                held_out=0,
                seed=3,
            ),
            1024,
        ),
        (
            "pc_table1",
            ["pipeline=baseline_paper", "threshold=max_layer", "pipeline.rounding=floor"],
            Baseline(16, threshold=Max("layer"), rounding="floor", calibrate_readout=False),
            1024,
        ),
        (
            "pc_table2",
            ["pipeline=lcp_paper", "T=64"],
            LCP(
                64,
                threshold=MMSE("channel", grid=100),
                rounding="bias",
                calibrate_readout=False,
                bias=Bias(images=128),
            ),
            1024,
        ),
        (
            "pc_table6",
            ["pipeline=lcp_paper", "data.calibration_images=32"],
            LCP(16, rounding="bias", calibrate_readout=False, bias=Bias(images=32)),
            32,
        ),
        (
            "pc_table6",
            ["pipeline=acp_paper", "data.calibration_images=256"],
            ACP(
                16,
                rounding="bias",
                calibrate_readout=False,
                weights=Weights(iterations=5000, learning_rate=1e-5, momentum=0.9, images=256),
                potential=Potential(images=256, shrink=False),
                augment=None,
                held_out=0,
            ),
            256,
        ),
        (
            "pc_table7",
            ["pipeline=acp_paper", "data_source=synthetic"],
            ACP(
                16,
                rounding="bias",
                calibrate_readout=False,
                weights=Weights(iterations=5000, learning_rate=1e-5, momentum=0.9, images=1024),
                potential=Potential(images=128, shrink=False),
                augment=None,
                held_out=0,
            ),
            1024,
        ),
        (
            "fl_table9",
            ["pipeline=opt", "pipeline.convert_avg_pool=true"],
            Opt(16, convert_avg_pool=True),
            256,
        ),
    ],
)
def test_jobs_have_the_papers_settings(
    hydra: Path, name: str, overrides: list[str], expected: Baseline, images: int
) -> None:
    config = composed("calibrate", hydra, f"experiment={name}", *overrides)
    assert instantiate(config.pipeline) == expected
    assert config.data.calibration_images == images


@pytest.mark.parametrize(
    ("name", "overrides", "recipe"),
    [
        ("pc_table2", ["model=vgg16"], (0.1, 1e-4, 0.1, 120, 0.0)),
        ("pc_table3", ["model=resnet20", "data=cifar100"], (0.1, 5e-4, 0.0, 300, 0.0)),
        ("pc_table5", ["model=vgg16_bn", "data=cifar100"], (0.1, 5e-4, 0.0, 1, 0.0)),
        ("fl_table9", ["model=vgg16"], (0.005, 1e-4, 0.0, 300, 0.25)),
        ("fl_table9", ["model=resnet20_deep_no_bn", "data=cifar100"], (0.005, 1e-4, 0.0, 300, 0.0)),
        ("fl_table9", ["model=resnet20_deep"], (0.1, 5e-4, 0.0, 300, 0.0)),
        ("fl_table9", ["model=mobilenet"], (0.1, 5e-4, 0.0, 300, 0.0)),
    ],
)
def test_anns_have_the_papers_recipes(
    hydra: Path, name: str, overrides: list[str], recipe: tuple[float, ...]
) -> None:
    config = composed("calibrate", hydra, f"experiment={name}", *overrides)
    module = config.module
    found = (module.learning_rate, module.weight_decay, module.label_smoothing)
    assert (*found, config.trainer.max_epochs, config.model.dropout) == recipe
    assert (module.momentum, module.nesterov) == (0.9, False)


SMALL = [
    *("data=digits", "model=resnet20", "model.width=4", "trainer=cpu", "trainer.max_epochs=1", "T=2"),
    *("data.train_images=192", "data.test_images=40", "data.image_size=8", "callbacks=none", "logger=none"),
    *("paper.images=32", "paper.iterations=2", "report=false"),
]


@pytest.fixture(scope="module")
def anns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anns")


def swept(folder: Path, anns: Path, *overrides: str) -> Finished:
    done = run(folder / "sweep", *overrides, cache=anns)
    assert done.code == 0, done.output
    return done


def gathered(folder: Path, layout: str) -> str:
    """`snn-compare`: what it writes as Markdown."""
    arguments = ["sweep", "--layout", layout, "--output", "table"]
    done = in_process(ROOT / "snn_lightning" / "report" / "__main__.py", folder, *arguments)
    assert done.code == 0, done.output
    return (folder / "table" / "table.md").read_text()


def results_below(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.rglob("results.json")]


def test_pc_table2_on_digits(anns: Path, tmp_path: Path) -> None:
    overrides = ["experiment=pc_table2", *SMALL, "data.calibration_images=64", "seed=0,1"]
    done = swept(tmp_path, anns, "-m", *overrides)
    rows = results_below(tmp_path)
    assert len(rows) == 3 * 2
    # One ANN for both seeds.
    assert len({row["ann_accuracy"] for row in rows}) == len(list(anns.glob("*.ckpt"))) == 1
    assert done.output.count("Using the ANN pretrained earlier") == 5
    caption, _, heading, _, *lines = gathered(tmp_path, "pc_table2").splitlines()
    assert caption == "**ResNet-20 on digits**"
    assert heading == "| Method | Use BN | ANN Acc. | T = 2 |"
    for line, (method, pipeline) in zip(
        lines,
        [("Baseline", BASELINE), ("Baseline + LCP", LIGHT), ("Baseline + ACP", ADVANCED)],
        strict=True,
    ):
        scores = [row["snn_accuracy"] for row in rows if row["pipeline"] == pipeline]
        mean, deviation = 50 * sum(scores), 100 * abs(scores[0] - scores[1]) / 2**0.5
        ann = f"{100 * rows[0]['ann_accuracy']:.2f} ± 0.00"
        assert line == f"| {method} | ✓ | {ann} | {mean:.2f} ± {deviation:.2f} |"


def test_pc_table6_on_digits(anns: Path, tmp_path: Path) -> None:
    images = "data.calibration_images=64,128"
    done = swept(tmp_path, anns, "-m", "experiment=pc_table6", *SMALL, images, "seed=0")
    # ACP isn't run with 64 images.
    assert done.output.count("Nothing to do: leave_out has this combination") == 1
    # A comparison takes a job that isn't one for no run that has failed.
    assert len(list(tmp_path.rglob(".hydra"))) == 3
    rows = {
        (row["pipeline"], row["config"]["data"]["calibration_images"]): row for row in results_below(tmp_path)
    }
    assert set(rows) == {(LIGHT, 64), (LIGHT, 128), (ADVANCED, 128)}
    assert rows[LIGHT, 64]["config"]["pipeline"]["bias"]["images"] == 32  # paper.images of the command line
    scores = {key: f"{100 * row['snn_accuracy']:.2f}" for key, row in rows.items()}
    assert gathered(tmp_path, "pc_table6").replace("\\", "").splitlines() == [
        "**Calibration images, LCP, T=2**",
        "",
        "| #Samples | 64 | 128 |",
        "|---|---:|---:|",
        f"| ResNet-20 (LCP) | {scores[LIGHT, 64]} | {scores[LIGHT, 128]} |",
        "",
        "**Calibration images, ACP, T=2**",
        "",
        "| #Samples | 128 |",
        "|---|---:|",
        f"| ResNet-20 (ACP) | {scores[ADVANCED, 128]} |",
    ]


def test_pc_table7_on_digits(anns: Path, tmp_path: Path) -> None:
    few = ["data.calibration_images=32", "synthesis.iterations=2", "seed=0"]
    swept(tmp_path, anns, "-m", "experiment=pc_table7", *SMALL, *few)
    rows = {row["data_source"]: row for row in results_below(tmp_path)}
    assert {name: row["calibration_images"] for name, row in rows.items()} == {
        "real": {"real": 32},
        "synthetic": {"synthetic": 32},
    }
    scores = {name: f"{100 * row['snn_accuracy']:.2f}" for name, row in rows.items()}
    assert gathered(tmp_path, "pc_table7").replace("\\", "").splitlines()[2:] == [
        "| Calibration Data | Methods | T = 2 |",
        "|---|---|---:|",
        f"| Original digits Data | ResNet-20 (ACP) | {scores['real']} |",
        f"| Distilled Fake Data | ResNet-20 (ACP) | {scores['synthetic']} |",
    ]


def test_pc_fig6_on_digits(anns: Path, tmp_path: Path) -> None:
    swept(tmp_path, anns, "experiment=pc_fig6", *SMALL, "data.calibration_images=64", "data.batch_size=16")
    (row,) = results_below(tmp_path)
    (numbers,) = tmp_path.rglob("figures/firing_rates.json")
    found = json.loads(numbers.read_text())
    assert (found["label"], found["timesteps"], len(found["sites"])) == (LIGHT, 2, 19)
    assert 0 < max(found["sites"].values()) <= 1
    assert row["config"]["figure_images"] is None
    for suffix in ("png", "svg"):
        assert numbers.with_suffix(f".{suffix}").stat().st_size > 1000


def test_pc_fig5_on_digits(anns: Path, tmp_path: Path) -> None:
    swept(
        tmp_path,
        anns,
        *("-m", "experiment=pc_fig5", *SMALL, "data.calibration_images=64"),
        f"pipeline={BASELINE},{LIGHT}",
    )
    gathered(tmp_path, "pc_fig5")
    drawings = sorted(path.name for path in (tmp_path / "table").glob("pc_fig5*"))
    assert drawings == [f"pc_fig5_resnet20_digits_T2_seed0.{suffix}" for suffix in ("png", "svg")]
    shown = (tmp_path / "table" / drawings[1]).read_text()
    assert shown.index("Baseline") < shown.index("Baseline + LCP")


def test_figures_are_checked_before_anything_is_trained(tmp_path: Path) -> None:
    for setting, message in (
        ("figures=[channel_eror]", "did you mean 'channel_errors'"),
        ("figure_images=0", "figure_images must be a whole number of at least 1, got 0"),
        ("unit_spikes=true figures=[firing_rates]", "figures compare activations"),
    ):
        done = run(tmp_path / "run", *SMALL, *setting.split(), cache=tmp_path / "cache")
        assert done.code != 0
        assert message in done.output
        assert "Pretraining" not in done.output


NUMBERS = {
    ("PC", "Table"): range(1, 8),
    ("PC", "Fig."): range(1, 7),
    ("PC", "Algo."): range(1, 3),
    ("PC", "eq."): range(1, 42),
    ("FL", "Table"): range(8, 10),
    ("FL", "eq."): range(20, 25),
}
"""All that is numbered in the texts of the papers."""

ITEM = re.compile(r"^\| (PC|FL) (Table|Fig\.|Algo\.|eq\.) ([\d, ]+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


def test_nothing_numbered_is_left_out(page: str) -> None:
    found: dict[tuple[str, str], list[int]] = {}
    for paper, kind, numbers in ITEM.findall(page):
        found.setdefault((paper, kind), []).extend(map(int, numbers.split(", ")))
    assert {key: sorted(numbers) for key, numbers in found.items()} == {
        key: list(numbers) for key, numbers in NUMBERS.items()
    }
    for statement in ("Theorem 4.1", "Lemma A.1", "Lemma A.2"):
        assert page.count(f"| PC {statement} |") == 1


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_what_the_page_names_is_there(page: str) -> None:
    named = re.findall(r"`([\w/]+\.(?:py|yaml))(?:::(\w+))?`", page)
    assert len(named) > 60
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or name in names_in(ROOT / path), f"{path}::{name}"
    tested = [line for line in page.splitlines() if ITEM.match(line) and "none yet" not in line]
    assert [line for line in tested if "`tests/" not in line or "`snn_lightning/" not in line] == []


def test_the_experiments_of_the_page_are_all_there_are(hydra: Path, page: str) -> None:
    rows = dict(re.findall(r"^\| [^|]+ \| `experiment=(\w+)` \| (\d+) \|", page, re.MULTILINE))
    assert {name: int(number) for name, number in rows.items()} == {
        name: len(sweep) for name, sweep in SWEEPS.items()
    }
    for choice in set(re.findall(r"`((?:experiment|pipeline|threshold)=\w+)`", page)):
        assert compose("calibrate", [choice])
