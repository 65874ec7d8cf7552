"""The table behind the shipped ground matrix `ground.severity`: what each mistake means to a car that believes its segmenter.

The classes of every taxonomy fall into ten roles; the table gives the severity of taking one role for another. It is an
expert's judgement on a scale of 0 to 1, made to be read and argued with; the reason stands beside each row. Two rules
run through it: not seeing something that can be hurt or hit is worse than seeing something that is not there, and what
the car would do next (drive on, brake, leave its lane) counts, not how alike two things look.
"""

from __future__ import annotations

ROLES: dict[str, tuple[str, ...]] = {
    "road": ("road", "roads"),
    "marking": ("road line", "road lines"),
    "walkway": ("sidewalk", "pavement", "sidewalks"),
    "ground": ("terrain", "other"),
    "sky": ("sky", "none"),
    "plant": ("vegetation", "tree"),
    "obstacle": ("building", "wall", "fence", "pole", "buildings", "walls", "fences", "poles"),
    "signal": ("traffic light", "traffic sign", "sign", "traffic signs"),
    "vehicle": ("car", "truck", "bus", "train", "vehicles"),
    "person": (
        "person",
        "rider",
        "pedestrian",
        "pedestrians",
        "bicyclist",
        "motorcycle",
        "bicycle",
    ),  # two-wheelers: someone rides them
}

# Within a role nothing changes for the driver except its expectations: 0.1 everywhere, less for solid things.
WITHIN = dict.fromkeys(ROLES, 0.1) | {"obstacle": 0.05, "plant": 0.05}

# SEVERITY[truth][predicted]
SEVERITY: dict[str, dict[str, float]] = {
    # A person taken for free road is driven into: the worst there is. As anything solid the car still stops, but does
    # not expect it to move; as a vehicle it expects the wrong movement.
    "person": {
        "road": 1.0, "marking": 1.0, "walkway": 0.9, "ground": 0.9, "sky": 1.0,
        "plant": 0.7, "obstacle": 0.6, "signal": 0.6, "vehicle": 0.3,
    },
    # A vehicle taken for free road is a crash, with crumple zones on both sides; as a fixed thing it is avoided where it
    # stands now; as a person it gets more room than it needs.
    "vehicle": {
        "road": 0.9, "marking": 0.9, "walkway": 0.8, "ground": 0.8, "sky": 0.9,
        "plant": 0.5, "obstacle": 0.4, "signal": 0.5, "person": 0.2,
    },
    # Walls and poles hurt the passengers, and most stand beside the lane, where the car has no errand.
    "obstacle": {
        "road": 0.8, "marking": 0.8, "walkway": 0.5, "ground": 0.5, "sky": 0.5,
        "plant": 0.1, "signal": 0.2, "vehicle": 0.2, "person": 0.2,
    },
    # A missed light or sign is a missed rule, whatever it is taken for; as road it is also a post that is hit.
    "signal": {
        "road": 0.7, "marking": 0.7, "walkway": 0.5, "ground": 0.5, "sky": 0.5,
        "plant": 0.4, "obstacle": 0.4, "vehicle": 0.4, "person": 0.4,
    },
    # Trunks are obstacles, leaves are not.
    "plant": {
        "road": 0.6, "marking": 0.6, "walkway": 0.4, "ground": 0.3, "sky": 0.2,
        "obstacle": 0.1, "signal": 0.2, "vehicle": 0.2, "person": 0.2,
    },
    # A walkway taken for road sends the car among people.
    "walkway": {
        "road": 0.7, "marking": 0.6, "ground": 0.1, "sky": 0.3,
        "plant": 0.2, "obstacle": 0.2, "signal": 0.2, "vehicle": 0.2, "person": 0.2,
    },
    # Soft ground taken for road is a run-off without people.
    "ground": {
        "road": 0.5, "marking": 0.5, "walkway": 0.1, "sky": 0.3,
        "plant": 0.1, "obstacle": 0.2, "signal": 0.2, "vehicle": 0.2, "person": 0.2,
    },
    # Road taken for something that blocks it is a needless stop, with someone behind; taken for walkway or ground the
    # lane narrows; a false line only misleads.
    "road": {
        "marking": 0.1, "walkway": 0.3, "ground": 0.3, "sky": 0.3,
        "plant": 0.3, "obstacle": 0.4, "signal": 0.3, "vehicle": 0.4, "person": 0.4,
    },
    # A lost line lets the car drift over it; otherwise as road.
    "marking": {
        "road": 0.2, "walkway": 0.3, "ground": 0.3, "sky": 0.3,
        "plant": 0.3, "obstacle": 0.4, "signal": 0.3, "vehicle": 0.4, "person": 0.4,
    },
    # Nothing happens in the sky, unless it is taken for something on the road.
    "sky": {
        "road": 0.3, "marking": 0.3, "walkway": 0.2, "ground": 0.2,
        "plant": 0.1, "obstacle": 0.1, "signal": 0.2, "vehicle": 0.2, "person": 0.2,
    },
}  # fmt: skip
