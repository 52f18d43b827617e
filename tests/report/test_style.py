"""The style leaves no trace, and colours are told apart."""

import matplotlib
import pytest

from snn_lightning.report.style import CYCLE, MARKERS, YELLOW, label_sites, looks, panels, styled


def test_the_style_leaves_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError, match="stop"), styled():
        raise ValueError("stop") if matplotlib.rcParams["axes.spines.top"] is False else KeyError
    assert dict(matplotlib.rcParams) == before


def test_the_settings_of_a_user_do_not_matter() -> None:
    with matplotlib.rc_context({"axes.facecolor": "red"}), styled():
        assert matplotlib.rcParams["axes.facecolor"] == "white"


def test_looks_are_different() -> None:
    assert len(set(CYCLE)) == len(CYCLE) == len(MARKERS) == len(set(MARKERS))
    assert YELLOW not in CYCLE
    assert looks(9)[7:] == looks(2)


@pytest.mark.parametrize(("names", "rotation"), [(["a", "b"], 0.0), (["stages_0_1_residual_2"] * 3, 90.0)])
def test_long_names_stand_upright(names: list[str], rotation: float) -> None:
    _, (axes,) = panels(8, 4)
    label_sites(axes, names, [float(place) for place in range(len(names))])
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}
