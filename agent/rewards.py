"""The reward of driving, as named terms, and the severity of a crash.

The paper's reward (arXiv 2008.04751, section III-C) is r = 1 - alpha*off_line - beta*off_road - psi*crash with
alpha = beta = 1 and psi = 10. It pays a parked car in full, so it is kept as `reward="paper"`; the default, `"progress"`,
multiplies the 1 by the progress along the route, min(v_along / v_ref, 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roadworthy.agent.infractions import Contact
from roadworthy.runtime.errors import BadInput

REWARDS = ("progress", "paper")
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)  # no crash, S0, S1, S2, S3
EGO_MASS_KG = 1_850.0  # [kg] a CARLA passenger car, when the vehicle's own mass is not known
CAR_MASS_KG = 1_500.0  # [kg] of another car whose mass is not known
PERSON_MASS_KG = 80.0  # [kg]
TWO_WHEELER_MASS_KG = 100.0  # [kg] bicycle or light motorcycle with its rider, as struck
# Lower limits of S1, S2, S3 [km/h]: impact speed gained by somebody unprotected, change of speed of somebody in a car.
UNPROTECTED_LIMITS_KMH = (5.0, 20.0, 40.0)
OCCUPANT_LIMITS_KMH = (5.0, 25.0, 45.0)
TWO_WHEELERS = ("bike", "bicycle", "crossbike", "omafiets", "century", "harley", "kawasaki", "vespa", "yamaha", "motorcycle")


@dataclass(frozen=True)
class RewardWeights:
    """The weights of the reward's terms; the defaults are the paper's."""

    off_line: float = 1.0  # alpha
    off_road: float = 1.0  # beta
    crash: float = 10.0  # psi
    reference_speed_mps: float = 25.0 / 3.6  # v_ref [m/s]: 25 km/h


@dataclass(frozen=True)
class RewardTerms:
    """One step's reward and what it is made of."""

    progress: float  # min(v_along / v_ref, 1); negative when driving back along the route
    off_line: float  # fraction of the car's box outside its lane, 0..1
    off_road: float  # fraction of the car's box outside the road, 0..1
    crash: float  # one of SEVERITIES
    total: float

    def to_info(self) -> dict[str, float]:
        """Return the terms under the names they have in a step's `info`."""
        return {
            "reward/progress": self.progress,
            "reward/off_line": self.off_line,
            "reward/off_road": self.off_road,
            "reward/crash": self.crash,
        }


def reward_terms(
    kind: str, v_along_mps: float, off_line: float, off_road: float, crash: float, weights: RewardWeights
) -> RewardTerms:
    """Compute one step's reward of `kind` (one of `REWARDS`); raises `BadInput` for another kind.

    `v_along_mps` is the ego's velocity projected on its route; `off_line` and `off_road` are fractions; `crash` is a severity.
    """
    if kind not in REWARDS:
        raise BadInput(f"unknown reward {kind!r}; known: {', '.join(REWARDS)}")
    progress = min(v_along_mps / weights.reference_speed_mps, 1.0)
    base = progress if kind == "progress" else 1.0
    total = base - weights.off_line * off_line - weights.off_road * off_road - weights.crash * crash
    return RewardTerms(progress, off_line, off_road, crash, total)


def crash_severity(contacts: Iterable[Contact], ego_mass_kg: float = EGO_MASS_KG) -> float:
    """Return the severity of the worst contact: 0 for none, then 1/4, 1/2, 3/4, 1 for S0, S1, S2, S3.

    ISO 26262-3 (annex B) defines the classes by injury: S1 is more than 10 % probability of AIS 1-6, S2 of AIS 3-6, S3 of
    AIS 5-6. It gives no speeds; SAE J2980 (appendix B) gives guidance by the change of speed. The limits here are this
    project's own choice within that reading:
    - somebody unprotected (walker, rider of a two-wheeler): impact speed from the impulse J, v = J / m of who was hit, limits
      5, 20 and 40 km/h. Tefft (Accident Analysis & Prevention 50, 2013) puts 10 % risk of severe injury (AIS 4+) at 27 km/h,
      so AIS 3+ lies below, and 10 % risk of death at 39 km/h;
    - people in cars: change of speed v = J / m of the lighter car (of the ego against scenery), limits 5, 25 and 45 km/h.
    """
    return max((SEVERITIES[1 + _severity_class(contact, ego_mass_kg)] for contact in contacts), default=0.0)


def _severity_class(contact: Contact, ego_mass_kg: float) -> int:
    """Return 0..3 for S0..S3."""
    kind = contact.other_type
    if kind.startswith("walker."):
        mass_kg, limits_kmh = PERSON_MASS_KG, UNPROTECTED_LIMITS_KMH
    elif kind.startswith("vehicle.") and any(word in kind for word in TWO_WHEELERS):
        mass_kg, limits_kmh = TWO_WHEELER_MASS_KG, UNPROTECTED_LIMITS_KMH
    elif kind.startswith("vehicle."):
        mass_kg, limits_kmh = min(ego_mass_kg, CAR_MASS_KG), OCCUPANT_LIMITS_KMH
    else:
        mass_kg, limits_kmh = ego_mass_kg, OCCUPANT_LIMITS_KMH
    speed_kmh = contact.impulse_ns / mass_kg * 3.6
    return sum(speed_kmh >= limit for limit in limits_kmh)
