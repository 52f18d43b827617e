"""The checks that all settings share."""

from collections.abc import Callable
from typing import Any

import pytest

from snn_lightning.errors import SettingsError
from snn_lightning.settings import check_choice, check_interval, check_positive, check_whole, is_number

ONE_TO_SEVEN: dict[str, Any] = {"least": 1, "most": 7}


@pytest.mark.parametrize(
    ("check", "value", "settings"),
    [
        (check_whole, 1, {}),
        (check_whole, 0, {"least": 0}),
        (check_whole, 10**400, {}),
        (check_whole, 7, ONE_TO_SEVEN),
        (check_whole, None, {"optional": True}),
        (check_positive, 1e-300, {}),
        (check_positive, 3, {}),
        (check_positive, None, {"optional": True}),
        (check_interval, 0, {"interval": "[0, 1)"}),
        (check_interval, 1.0, {"interval": "(0, 1]"}),
        (check_choice, "b", {"choices": ("a", "b")}),
    ],
)
def test_good_values_pass(check: Callable[..., None], value: object, settings: dict[str, Any]) -> None:
    check("x", value, **settings)


@pytest.mark.parametrize(
    ("check", "value", "settings", "message"),
    [
        (check_whole, True, {}, "x must be a whole number of at least 1, got True"),
        (check_whole, 2.0, {}, "x must be a whole number of at least 1, got 2.0"),
        (check_whole, None, {}, "x must be a whole number of at least 1, got None"),
        (check_whole, -1, {"least": 0}, "x must be a whole number of at least 0, got -1"),
        (check_whole, 8, ONE_TO_SEVEN, "x must be a whole number from 1 to 7, got 8"),
        (check_positive, 0, {}, "x must be a positive number, got 0"),
        (check_positive, float("nan"), {}, "x must be a positive number, got nan"),
        (check_positive, True, {}, "x must be a positive number, got True"),
        (check_positive, "1", {"optional": True}, "x must be a positive number, got '1'"),
        (check_interval, 1, {"interval": "[0, 1)"}, r"x must be in \[0, 1\), got 1"),
        (check_interval, 0, {"interval": "(0, 1]"}, r"x must be in \(0, 1\], got 0"),
        (check_interval, float("nan"), {"interval": "(0, 1]"}, r"x must be in \(0, 1\], got nan"),
        (check_choice, "c", {"choices": ("a", "b")}, "x must be 'a' or 'b', got 'c'"),
        (check_choice, ["a"], {"choices": {"a": 1}}, r"x must be one of a, got \['a'\]"),
    ],
)
def test_others_are_refused(
    check: Callable[..., None], value: object, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}$"):
        check("x", value, **settings)


def test_infinity_is_no_number() -> None:
    assert all(map(is_number, (1, 0.5, 10**400)))
    assert not any(map(is_number, (True, float("inf"), "1")))
