"""Runs in the papers' tables."""

from pathlib import Path
from typing import Any

import pytest

from snn_lightning.errors import SettingsError
from snn_lightning.report.compare.paper_figures import paper_figures
from snn_lightning.report.compare.papers import PAPERS, paper_tables
from snn_lightning.report.compare.runs import Run
from snn_lightning.report.compare.words import batch_norm, method, network, threshold


def run(
    model: str = "resnet34",
    /,
    pipeline: str = "lcp_paper",
    timesteps: int = 16,
    snn: float = 0.5,
    *,
    data: str = "imagenet",
    seed: int = 0,
    ann: float = 0.75,
    rule: tuple[str, str] = ("MMSE", "channel"),
    rounding: str = "bias",
    modified: float = 0.0,
    calibration_seconds: float = 1.0,
    **config: Any,
) -> Run:
    name, granularity = rule
    found: dict[str, Any] = {"_target_": f"snn_lightning.{name}", "granularity": granularity}
    if name == "Percentile":
        found["percentile"] = 99.99
    settings = {"pipeline": {"threshold": found, "rounding": rounding, **config.pop("steps", {})}, **config}
    scores = {"ann_accuracy": ann, "snn_accuracy": snn}
    head = {"model": model, "data": data, "pipeline": pipeline, "timesteps": timesteps, "seed": seed}
    seconds = {"calibration": calibration_seconds}
    return Run(
        Path(f"{seed}/{modified}"), {**head, **scores, "seconds": seconds, "config": settings}, modified
    )


def shown(layout: str, *runs: Run) -> dict[str, list[list[str]]]:
    """By caption the headings and the rows, as they are shown."""
    tables, notes = paper_tables(layout, runs)
    assert notes == []
    return {caption: [list(table.columns), *table.shown] for caption, table in tables}


def test_pc_table4() -> None:
    """The numbers of the paper; its scores are COCO's mean over thresholds, not the first of the results."""

    def detected(model: str, pipeline: str, timesteps: int, ann: float, snn: float) -> Run:
        found = run(model, pipeline, timesteps, data="coco", model={"backbone": "resnet50"})
        scores = {
            "scores": ["map50", "map"],
            "ann_map": ann,
            "snn_map": snn,
            "ann_map50": 0.6,
            "snn_map50": 0.5,
        }
        found.results.update(scores)
        return found

    runs = [
        detected("faster_rcnn", "acp_paper", 32, 0.370, 0.310),
        detected("retinanet", "baseline_paper", 64, 0.356, 0.201),
        detected("retinanet", "baseline_paper", 32, 0.356, 0.062),
        detected("retinanet", "lcp_paper", 32, 0.356, 0.192),
    ]
    assert shown("pc_table4", *runs) == {
        "RetinaNet on COCO, Backbone: ResNet-50 (mAP: 35.6)": [
            ["Method", "T = 32", "T = 64"],
            ["Baseline", "6.20", "20.10"],
            ["Baseline + LCP", "19.20", "–"],
        ],
        "Faster R-CNN on COCO, Backbone: ResNet-50 (mAP: 37.0)": [
            ["Method", "T = 32"],
            ["Baseline + ACP", "31.00"],
        ],
    }


NO_BN: dict[str, Any] = {"model": {"batch_norm": False}}


def test_pc_table1() -> None:
    layer = ("MMSE", "layer")
    runs = [
        run("vgg16", "baseline_paper", 32, 0.7108, rule=layer),
        run("resnet34", "baseline_paper", 16, 0.287, rule=layer, ann=0.7095, **NO_BN),
        run("vgg16", "baseline_paper", 16, 0.6886, rule=layer),
        run("vgg16", "baseline_paper", 16, 0.0953, rule=layer, rounding="floor"),
        run("vgg16", "baseline_paper", 16, 0.001, rule=("Max", "layer"), rounding="floor"),
        run("vgg16", "baseline_paper", 16, 0.448, rule=("Max", "layer")),
        run("vgg16", "baseline_paper", 16, 0.6234, rule=("Percentile", "layer")),
        run("vgg16", "baseline_paper", 16, 0.6892),
        run("vgg16_bn", "baseline_paper", 16, 0.0019, rule=layer),
        run("vgg16_bn", "lcp_paper", 16, 0.1195, rule=layer),
        run("vgg16_bn", "lcp_paper", 16, 0.4081),
        run("vgg16_bn", "acp_paper", 16, 0.6502, seed=0),
        run("vgg16_bn", "acp_paper", 16, 0.6504, seed=1),
    ]
    assert shown("pc_table1", *runs) == {
        "(a) ClipFloor and ClipRound, ANN without batch norm": [
            ["Method", "ResNet-34 T=16", "VGG-16 T=16", "VGG-16 T=32"],
            ["MaxAct+ClipFloor", "–", "0.10", "–"],
            ["MaxAct+ClipRound", "–", "44.80", "–"],
            ["MMSE+ClipFloor", "–", "9.53", "–"],
            ["MMSE+ClipRound", "28.70", "68.86", "71.08"],
        ],
        "(b) Thresholds, ANN without batch norm": [
            ["Method", "ResNet-34 T=16", "VGG-16 T=16", "VGG-16 T=32"],
            ["MaxAct", "–", "44.80", "–"],
            ["Percentile 99.99%", "–", "62.34", "–"],
            ["MMSE", "28.70", "68.86", "71.08"],
            ["MMSE*", "–", "68.92", "–"],
        ],
        "(c) ClipRound and MMSE, ANN with and without batch norm": [
            ["Method", "ResNet-34 T=16", "VGG-16 T=16", "VGG-16 T=32"],
            ["ANN without BN", "70.95", "75.00", "75.00"],
            ["SNN of ANN without BN", "28.70", "68.86", "71.08"],
            ["ANN with BN", "–", "75.00", "–"],
            ["SNN of ANN with BN", "–", "0.19", "–"],
        ],
        "(d) Thresholds with LCP, ANN with batch norm": [
            ["Method", "VGG-16 T=16"],
            ["MMSE+LCP", "11.95"],
            ["MMSE*+LCP", "40.81"],
        ],
        "(e) Thresholds with ACP, ANN with batch norm": [["Method", "VGG-16 T=16"], ["MMSE*+ACP", "65.03"]],
    }


def test_pc_table2_has_a_table_for_each_network_with_means_and_deviations() -> None:
    runs = [
        run("vgg16_bn", "acp_paper", 2048, 0.7532),
        run("resnet34", "acp_paper", 16, 0.50, seed=0),
        run("resnet34", "acp_paper", 16, 0.52, seed=1),
        run("resnet34", "baseline_paper", 256, 0.7338),
        run("resnet34", "spike_norm", 16, 0.01),
        run("resnet34", "lcp_paper", 16, 0.5403, ann=0.7095, **NO_BN),
    ]
    assert shown("pc_table2", *runs) == {
        "ResNet-34 on ImageNet": [
            ["Method", "Use BN", "ANN Acc.", "T = 16", "T = 256"],
            ["Baseline + LCP", "✗", "70.95", "54.03", "–"],
            ["Spike-Norm", "✓", "75.00", "1.00", "–"],
            ["Baseline", "✓", "75.00", "–", "73.38"],
            ["Baseline + ACP", "✓", "75.00 ± 0.00", "51.00 ± 1.41", "–"],
        ],
        "VGG-16 on ImageNet": [
            ["Method", "Use BN", "ANN Acc.", "T = 2048"],
            ["Baseline + ACP", "✓", "75.00", "75.32"],
        ],
    }


def test_pc_table3_has_both_data_sets_side_by_side() -> None:
    runs = [
        run("vgg16_bn", "lcp_paper", 4, 0.3012, data="cifar100", ann=0.7793),
        run("vgg16_bn", "lcp_paper", 8, 0.9036, data="cifar10", ann=0.956),
        run("vgg16_bn", "lcp_paper", 4, 0.7153, data="cifar10", ann=0.956),
    ]
    headings = ["Method", "Use BN", "CIFAR-10 ANN", "CIFAR-10 T = 4", "CIFAR-10 T = 8", "CIFAR-100 ANN"]
    row = ["Baseline + LCP", "✓", "95.60", "71.53", "90.36", "77.93", "30.12"]
    assert shown("pc_table3", *runs) == {"VGG-16": [[*headings, "CIFAR-100 T = 4"], row]}


def test_pc_space() -> None:
    """The numbers of the paper; its 0.3653 MB for ResNet-34's biases are ten times those of 9576 channels."""

    def stored(model: str, pipeline: str, **kinds: int) -> Run:
        found = run(model, pipeline, 64)
        found.results["parameter_bytes"] = {"thresholds": 4, "biases": 4, "potentials": 0, **kinds}
        return found

    runs = [
        stored("mobilenet", "weights_paper", weights=int(12.21 * 2**20)),
        stored("resnet34", "weights_paper", weights=int(83.25 * 2**20)),
        stored("resnet34", "potential_paper", potentials=int(18.76 * 2**20), weights=0),
        stored("resnet34", "lcp_paper", biases=4 * 9576),
        run("resnet34", "acp_paper", 64),
        run("mobilenet", "lcp_paper", 64),
    ]
    assert shown("pc_space", *runs) == {
        "Memory of a set of parameters, T=64": [
            ["Model", "Biases", "Potentials", "Weights"],
            ["ResNet-34 on ImageNet", "0.0365MB", "18.76MB", "83.25MB"],
            ["MobileNet on ImageNet", "–", "–", "12.21MB"],
        ]
    }


def test_pc_table5() -> None:
    gpu, cpu = ({"accelerator": name} for name in ("gpu", "cpu"))
    runs = [
        run("mobilenet", "weights_paper", 64, calibration_seconds=1656, trainer=gpu),
        run("mobilenet", "lcp_paper", 64, calibration_seconds=1993, trainer=cpu),
        run("mobilenet", "potential_paper", 64, calibration_seconds=131, trainer=gpu),
        run("mobilenet", "lcp_paper", 64, calibration_seconds=14.708, trainer=gpu),
    ]
    tables = shown("pc_table5", *runs)["Time of calibration, T=64"]
    assert tables[0] == ["Model", "Bias", "Potential", "Weights"]
    assert sorted(tables[1:]) == [
        ["MobileNet (CPU)", "33m13s", "–", "–"],
        ["MobileNet (GPU)", "14.71s", "2m11s", "27m36s"],
    ]


def test_pc_table6_has_a_table_for_each_pipeline() -> None:
    runs = [
        sampled("acp_paper", 1024, 0.7057),
        sampled("acp_paper", 128, 0.6973),
        sampled("lcp_paper", 32, 0.5723),
    ]
    assert shown("pc_table6", *runs) == {
        "Calibration images, LCP, T=64": [["#Samples", "32"], ["ResNet-34 (LCP)", "57.23"]],
        "Calibration images, ACP, T=64": [["#Samples", "128", "1024"], ["ResNet-34 (ACP)", "69.73", "70.57"]],
    }


def test_pc_table7() -> None:
    """The numbers of the paper."""

    def sourced(timesteps: int, snn: float, **config: Any) -> Run:
        return run("resnet34", "acp_paper", timesteps, snn, **config)

    runs = [
        sourced(32, 0.6232, data_source="synthetic"),
        sourced(16, 0.4125, data_source="synthetic"),
        sourced(16, 0.4010, data_source="folder+synthetic"),
        sourced(32, 0.6465),  # of a version without other sources
        sourced(16, 0.5167, data_source="real"),
    ]
    assert shown("pc_table7", *runs) == {
        "Calibration images on ImageNet": [
            ["Calibration Data", "Methods", "T = 16", "T = 32"],
            ["Original ImageNet Data", "ResNet-34 (ACP)", "51.67", "64.65"],
            ["Distilled Fake Data", "ResNet-34 (ACP)", "41.25", "62.32"],
            ["folder+synthetic", "ResNet-34 (ACP)", "40.10", "–"],
        ]
    }


def sampled(pipeline: str, images: int, snn: float) -> Run:
    found = run(pipeline=pipeline, timesteps=64, snn=snn)
    found.results["config"]["data"] = {"calibration_images": images}
    return found


def test_fl_table8() -> None:
    runs = [
        run(model, "lcp_paper", 32, snn, steps={"convert_avg_pool": converted})
        for model, snn, converted in (("vgg16_bn", 0.4953, False), ("vgg16_bn", 0.2488, True))
    ]
    expected = [["Method", "Not Convert AP", "Convert AP"], ["VGG-16", "49.53", "24.88"]]
    (table,) = shown("fl_table8", *runs).values()
    assert sorted(table[0]) == sorted(expected[0])
    assert dict(zip(*table, strict=True)) == dict(zip(*expected, strict=True))


def test_fl_table9() -> None:
    pooled: dict[str, Any] = {"steps": {"convert_avg_pool": True}}
    runs = [
        run("mobilenet", "opt", 32, 0.0128, data="cifar100", ann=0.7323, rule=("Cap", "layer"), **pooled),
        run("mobilenet", "acp_paper", 32, 0.4264, data="cifar100", ann=0.7323, **pooled),
        run("mobilenet", "lcp_paper", 64, 0.6281, data="cifar100", ann=0.7323, **pooled),
    ]
    assert shown("fl_table9", *runs) == {
        "MobileNet on CIFAR-100": [
            ["Method", "Use BN", "Convert AP", "ANN Acc.", "T = 32", "T = 64"],
            ["Opt.", "✓", "✓", "73.23", "1.28", "–"],
            ["Ours (Light Pipeline)", "✓", "✓", "73.23", "–", "62.81"],
            ["Ours (Advanced Pipeline)", "✓", "✓", "73.23", "42.64", "–"],
        ]
    }


def test_the_newest_of_two_runs_of_a_seed_counts() -> None:
    runs = [run(snn=0.6, modified=2.0), run(snn=0.4, modified=1.0)]
    ((_, table),), notes = paper_tables("pc_table2", runs)
    assert table.shown == [["Baseline + LCP", "✓", "75.00", "60.00"]]
    assert notes == ["0/1.0 is left out: 0/2.0 has the same place and seed, and is newer."]


def test_what_has_no_place_is_refused() -> None:
    with pytest.raises(SettingsError, match="None of the runs has a place in pc_table1"):
        paper_tables("pc_table1", [run("vgg16", "lcp_paper")])
    with pytest.raises(SettingsError, match="did you mean 'pc_table2'"):
        paper_tables("pc_table22", [run()])
    with pytest.raises(SettingsError, match="pc_fig5"):
        paper_figures("pc_fig55", [run()], "figures")


def test_the_papers_words() -> None:
    assert [network(run(name)) for name in ("mnasnet", "resnet18")] == ["MNasNet×2", "resnet18"]
    assert [batch_norm(run(name)) for name in ("vgg16", "vgg16_bn", "mobilenet")] == [False, True, True]
    assert [method(run(pipeline=name)) for name in ("lcp", "rmp", "mine")] == [
        "Baseline + LCP",
        "RMP",
        "mine",
    ]
    assert threshold(run(rule=("Max", "channel"))) == "MaxAct*"
    assert set(PAPERS) == {"fl_table8", "fl_table9", "pc_space", *(f"pc_table{n}" for n in range(1, 8))}
