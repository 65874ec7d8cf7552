import pytest

from roadworthy.agent.infractions import Contact, InfractionLog, collision_kind


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ("walker.pedestrian.0001", "collision_person"),
        ("vehicle.tesla.model3", "collision_car"),
        ("vehicle.diamondback.century", "collision_car"),
        ("static.prop.bin", "collision_static"),
        ("traffic.traffic_light", "collision_static"),
    ],
)
def test_who_was_hit(other: str, kind: str) -> None:
    assert collision_kind(other) == kind


def test_one_contact_is_one_collision_however_long_it_lasts() -> None:
    log = InfractionLog()
    car = Contact(7, "vehicle.audi.tt", 500.0)
    for step in range(30):  # 3 s of grinding along the same car
        log.update(step, 0.0, (0.0, 0.0), [car], 0.0, 0.0)
    assert [event.kind for event in log.events] == ["collision_car"]
    log.update(30 + 20, 5.0, (0.0, 0.0), [car], 0.0, 0.0)  # 2.1 s after the last contact: hit again
    log.update(51, 5.0, (0.0, 0.0), [Contact(8, "vehicle.audi.tt", 1.0)], 0.0, 0.0)  # another car
    assert len(log.events) == 3


def test_an_excursion_counts_once_until_the_car_is_back() -> None:
    log = InfractionLog()
    for step, fraction in enumerate([0.0, 0.29, 0.31, 0.2, 0.5, 0.05, 0.4]):
        log.update(step, 0.0, (0.0, 0.0), [], fraction, 0.0)
    assert [(event.kind, event.step) for event in log.events] == [("off_line", 2), ("off_line", 6)]


def test_the_car_is_outside_until_an_excursion_is_over() -> None:
    log = InfractionLog()
    found = []
    for step, fraction in enumerate((0.0, 0.9, 0.2, 0.05)):
        log.update(step, 0.0, (0.0, 0.0), (), fraction, 0.0)
        found.append(log.outside)
    assert found == [False, True, True, False]
