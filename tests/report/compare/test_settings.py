from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_lightning.report.compare.settings import differing, look_up, text

MMSE = {"_target_": "snn_lightning.MMSE", "grid": 100}
PERCENTILE = {"_target_": "snn_lightning.Percentile", "percentile": 99}


def with_pipeline(**settings: Any) -> dict[str, Any]:
    return {"pipeline": {"_target_": "snn_lightning.LCP", **settings}}


def test_what_is_the_same_is_not_named() -> None:
    assert differing([("lcp", {"data": {"size": 8}}), ("acp", {"data": {"size": 8}})]) == []


def test_fields_of_a_class_come_with_it() -> None:
    configs = [{"threshold": MMSE}, {"threshold": PERCENTILE}]
    assert differing([("lcp", config) for config in configs]) == ["threshold"]
    configs.append({"threshold": {**PERCENTILE, "percentile": 95}})
    assert differing([("lcp", config) for config in configs]) == ["threshold", "threshold.percentile"]


def test_settings_of_another_pipeline_are_not_compared() -> None:
    acp = {"pipeline": {"_target_": "snn_lightning.ACP", "weights": {"iterations": 10}}}
    assert differing([("lcp", with_pipeline()), ("acp", acp)]) == []
    more = {"pipeline": {"_target_": "snn_lightning.ACP", "weights": {"iterations": 20}}}
    assert differing([("lcp", with_pipeline()), ("acp", acp), ("acp", more)]) == [
        "pipeline.weights.iterations"
    ]


def test_settings_outside_the_pipeline_are_compared_across_pipelines() -> None:
    few, many = {"data": {"calibration_images": 64}}, {"data": {"calibration_images": 128}}
    assert differing([("lcp", few), ("acp", many)]) == ["data.calibration_images"]


def test_what_a_pipeline_takes_over_is_named_once() -> None:
    configs = [{"threshold": t, **with_pipeline(threshold=t)} for t in (MMSE, PERCENTILE)]
    assert differing([("lcp", config) for config in configs]) == ["threshold"]
    own = {"threshold": MMSE, **with_pipeline(threshold=PERCENTILE)}
    assert differing([("lcp", configs[0]), ("lcp", own)]) == ["pipeline.threshold"]


def test_something_and_nothing() -> None:
    search = {"_target_": "snn_lightning.NeuronSearch"}
    assert differing([("lcp", with_pipeline()), ("lcp", with_pipeline(search=search))]) == ["pipeline.search"]
    assert differing([("lcp", {"analog": ["head"]}), ("lcp", {})]) == ["analog"]


def test_a_pipeline_of_another_class() -> None:
    other = {"pipeline": {"_target_": "my.LCP"}}
    assert differing([("lcp", with_pipeline()), ("lcp", other)]) == ["pipeline._target_"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (64, "64"),
        (0.5, "0.5"),
        (False, "false"),
        (None, None),
        (["head", 2], "head, 2"),
        (MMSE, "MMSE"),
        ({"a": 1, "b": None}, "a=1, b=None"),
    ],
)
def test_values_as_texts(value: object, shown: str | None) -> None:
    assert text(value) == shown


settings = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "pipeline"]), inner, max_size=3),
    max_leaves=6,
)
configs = st.dictionaries(st.sampled_from(["a", "b", "pipeline"]), settings, max_size=3)


@given(configs, configs)
def test_methods_are_told_apart_by_what_is_named(one: dict, other: dict) -> None:
    names = differing([("lcp", one), ("lcp", other)])
    assert names == differing([("lcp", other), ("lcp", one)]) or len(names) > 1
    for name in names:
        if not name.endswith("_target_"):
            assert look_up(one, name) != look_up(other, name) or type(look_up(one, name)) is not type(
                look_up(other, name)
            )
