"""Choose the time steps for the user: the cheapest SNN that loses no more than so many points."""

from snn_lightning.calibration.budget.api import calibrate_to
from snn_lightning.calibration.budget.search import BudgetResult

__all__ = ["BudgetResult", "calibrate_to"]
