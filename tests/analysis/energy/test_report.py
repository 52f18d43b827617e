"""What the table of an inference's costs says."""

from snn_lightning.analysis.energy import EnergyModel, EnergyReport, StageEnergy

STAGES = (
    StageEnergy("relu", "neuron", 100, 50.0, 2000.0, 300.0, 1000.0, 400.0, 40.0),
    StageEnergy("head", "readout", 0, 0.0, 0.0, 0.0, 200.0, 200.0, 0.0, 200.0),
)


def test_what_is_printed() -> None:
    text = str(EnergyReport(STAGES[:1], 2, 7))
    assert "T=2, mean over 7 images" in text
    rows = [line.split() for line in text.splitlines()]
    assert rows[1][-5:] == ["ANN", "MACs", "not", "of", "zeros"]
    assert rows[2] == ["relu", "50", "0.250", "2.00", "k", "300", "1.00", "k", "400"]
    assert rows[3] == ["total", *rows[2][1:]]
    # 0.9 * 2000 + 4.6 * 300 = 3180 pJ of 4600, and of 1840.
    energy = "Energy: 0.00318 µJ, 69.1 % of the ANN's 0.0046 µJ (0.9 pJ an accumulate, 4.6 pJ a MAC)"
    assert text.splitlines()[-2] == energy
    assert text.splitlines()[-1] == "An ANN that skips zeros: 0.00184 µJ, of which the SNN's is 172.8 %"


def test_the_total() -> None:
    report = EnergyReport(STAGES, 2, 7, EnergyModel(mac=2.0, ac=1.0, spike=0.5, weight=1.0))
    total = StageEnergy("total", "", 100, 50.0, 2000.0, 300.0, 1200.0, 600.0, 40.0, 200.0)
    assert report.total == total
    assert report.energy == 2 * 2000 + 3 * 300 + 0.5 * 50 == sum(map(report.model.snn, STAGES))
    assert report.ann_energy == 3 * 1200 + 0.5 * 100 == sum(map(report.model.ann, STAGES))
    assert report.skipping_energy == 3 * 600 + 0.5 * 40 == sum(map(report.model.skipping, STAGES))
    assert report.firing_rate == 50 / (2 * 100)
    assert report.analog == 200 / 1200
    assert "16.7 % of the ANN's MACs stay analog" in str(report)
    assert "0.5 pJ a spike or activation, 1 pJ a weight)" in str(report)
