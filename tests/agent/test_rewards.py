import pytest

from roadworthy.agent.infractions import Contact
from roadworthy.agent.rewards import RewardWeights, crash_severity, reward_terms
from roadworthy.runtime.errors import BadInput

V_REF = 25 / 3.6  # m/s


def total(kind: str, speed: float, off_line: float = 0.0, off_road: float = 0.0, crash: float = 0.0) -> float:
    return reward_terms(kind, speed, off_line, off_road, crash, RewardWeights()).total


def test_the_papers_reward_pays_a_parked_car_and_the_default_does_not() -> None:
    assert total("paper", 0.0) == 1.0
    assert total("progress", 0.0) == 0.0


@pytest.mark.parametrize(("speed", "expected"), [(V_REF / 2, 0.5), (V_REF, 1.0), (3 * V_REF, 1.0), (-V_REF, -1.0)])
def test_progress_is_capped_at_the_reference_speed(speed: float, expected: float) -> None:
    assert total("progress", speed) == pytest.approx(expected)


def test_the_papers_weights() -> None:
    assert total("paper", 0.0, off_line=0.5, off_road=0.25, crash=0.75) == pytest.approx(1 - 0.5 - 0.25 - 7.5)


def test_an_unknown_reward_is_refused() -> None:
    with pytest.raises(BadInput, match="progress, paper"):
        total("speed", 1.0)


@pytest.mark.parametrize(
    ("other", "impulse", "severity"),
    [
        ("walker.pedestrian.0001", 80 * 4 / 3.6, 0.25),  # somebody of 80 kg brought to 4 km/h
        ("walker.pedestrian.0001", 80 * 10 / 3.6, 0.5),
        ("walker.pedestrian.0001", 80 * 30 / 3.6, 0.75),
        ("walker.pedestrian.0001", 80 * 50 / 3.6, 1.0),
        ("vehicle.tesla.model3", 1500 * 4 / 3.6, 0.25),
        ("vehicle.tesla.model3", 1500 * 10 / 3.6, 0.5),
        ("vehicle.tesla.model3", 1500 * 30 / 3.6, 0.75),
        ("vehicle.yamaha.yzf", 100 * 30 / 3.6, 0.75),
        ("static.building", 1850 * 50 / 3.6, 1.0),
    ],
)
def test_severity_follows_impulse_and_who_was_hit(other: str, impulse: float, severity: float) -> None:
    assert crash_severity([Contact(1, other, impulse)]) == severity


def test_the_worst_contact_counts_and_none_is_zero() -> None:
    assert crash_severity([]) == 0.0
    assert crash_severity([Contact(1, "static.pole", 10.0), Contact(2, "walker.pedestrian.0001", 2000.0)]) == 1.0
