"""Prices, and what each network pays of them."""

from typing import Any

import pytest

from snn_lightning.analysis.energy import EnergyModel, StageEnergy, prices
from snn_lightning.errors import SettingsError

STAGE = StageEnergy("relu", "neuron", 7, 11.0, 13.0, 17.0, 19.0, 5.0, 3.0)


@pytest.mark.parametrize(
    ("price", "snn", "ann", "skipping"),
    [
        ({"mac": 100.0}, 1700, 1900, 500),
        ({"ac": 100.0}, 1300, 0, 0),
        ({"spike": 100.0}, 1100, 700, 300),
        ({"weight": 100.0}, 3000, 1900, 500),
    ],
    ids=["mac", "ac", "spike", "weight"],
)
def test_what_each_price_is_for(price: dict[str, float], snn: float, ann: float, skipping: float) -> None:
    tiny = {"mac": 1e-9, "ac": 0.0, "spike": 0.0, "weight": 0.0}
    model = EnergyModel(**(tiny | price))
    found = (model.snn(STAGE), model.ann(STAGE), model.skipping(STAGE))
    assert found == pytest.approx((snn, ann, skipping), abs=1e-6)


def test_the_default_is_the_papers() -> None:
    assert EnergyModel() == EnergyModel(mac=4.6, ac=0.9, spike=0.0, weight=0.0) == prices(None)
    assert EnergyModel().snn(STAGE) == 0.9 * 13 + 4.6 * 17
    assert prices(EnergyModel(mac=1)).mac == 1


@pytest.mark.parametrize("name", ["mac", "ac", "spike", "weight"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "4.6", None, True])
def test_a_price_that_is_none_is_named(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"energy\.{name} must be a number of pJ of at least 0, got "):
        EnergyModel(**{name: value})


def test_multiplications_cost_something() -> None:
    with pytest.raises(SettingsError, match=r"energy\.mac must be more than 0 pJ"):
        EnergyModel(mac=0)
