"""Reading an objective's specification."""

from __future__ import annotations

import pytest

from roadworthy.runtime.errors import BadInput
from roadworthy.train.objectives import check_spec
from roadworthy.train.objectives.gambling import GamblingOptions
from roadworthy.train.objectives.spec import Term, parse_spec, read_options


def test_a_sum_with_weights_and_options_is_read() -> None:
    assert parse_spec("cross-entropy + 0.5 * wasserstein(metric=power, rho=2.5)") == [
        Term(1.0, "cross-entropy", {}),
        Term(0.5, "wasserstein", {"metric": "power", "rho": "2.5"}),
    ]


def test_options_take_the_type_of_their_default() -> None:
    options = read_options(GamblingOptions, {"weight": "0.5", "gambler_steps": "7", "literal": "true"}, "gambling")
    assert options == GamblingOptions(weight=0.5, gambler_steps=7, literal=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "cannot read"),
        ("cross-entropy +", "cannot read"),
        ("cross entropy", "cannot read"),
        ("crossentropy", "unknown objective 'crossentropy'; known: cross-entropy"),
        ("x*wasserstein", "weight of wasserstein is 'x'"),
        ("-1*wasserstein", "weight of wasserstein is -1"),
        ("gambling(lambda=1)", "no option 'lambda'; its options and defaults: weight=1.0"),
        ("gambling(beta)", "expected option=value"),
        ("gambling(beta=much)", "'much', expected a number"),
        ("gambling(beta=nan)", "expected a finite number"),
        ("gambling(gambler_steps=1.5)", "expected a number"),
        ("gambling(literal=1)", "expected true or false"),
    ],
)
def test_a_specification_that_does_not_read_is_refused(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_spec(spec)
