"""Notes which members of the `carla` package a check uses, for the table of supported API."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import carla

# Plain values: what they do happens in the client alone.
VALUES = {
    "Color", "OpticalFlowPixel", "FloatColor", "TextureColor", "TextureFloatColor", "Vector2D", "Vector3D", "Location",
    "Rotation", "Transform", "BoundingBox", "Quaternion", "GeoLocation", "Timestamp", "bone_transform", "vector_of_bones",
    "bone_transform_out", "vector_of_bones_out", "bone_transform_socket", "GearPhysicsControl", "WheelPhysicsControl",
    "FakeImage", "Osm2Odr", "Osm2OdrSettings", "OpendriveGenerationParameters",
}  # fmt: skip
NO_COMMANDS = {"Response", "FutureActor"}
REFUSED, LOGGED, NO_EFFECT = "refused", "refused, in the town's log only", "accepted, no effect"
used: set[str] = set()
remarks: dict[str, str] = {}  # member -> how the town treats it, where that is not simply by doing it
_last = ""  # the member called last


def public_classes(module: ModuleType) -> dict[str, type]:
    """Name -> class of everything public in a module of the client."""
    found = {name: value for name, value in vars(module).items() if inspect.isclass(value) and not name.startswith("_")}
    return {
        name: value for name, value in found.items() if value.__module__.startswith("carla") or "libcarla" in value.__module__
    }


def members(class_: type) -> dict[str, Any]:
    """The methods and properties that a class itself adds."""
    return {
        name: value
        for name, value in vars(class_).items()
        if not name.startswith("_") and (callable(value) or type(value) is property)  # not Boost's static properties
    }


def noted_classes() -> dict[str, type]:
    """The classes whose members are noted: no plain values, no enumerations."""
    return {
        name: class_ for name, class_ in public_classes(carla).items() if name not in VALUES and not hasattr(class_, "values")
    }


def catalogue() -> dict[str, list[str]]:
    """Members by class; the batch commands count as members of `command`."""
    found = {name: sorted(members(class_)) for name, class_ in noted_classes().items()}
    found["command"] = sorted(set(public_classes(carla.command)) - NO_COMMANDS)
    return {name: names for name, names in sorted(found.items()) if names}


def start() -> None:
    """Replace every method and property by one that notes its use."""
    for name, class_ in noted_classes().items():
        for member, value in members(class_).items():
            title = f"{name}.{member}"
            if isinstance(value, property):
                setattr(class_, member, _noted_property(title, value))
            elif not isinstance(vars(class_)[member], staticmethod):
                setattr(class_, member, _noted(title, value))
    for name, class_ in public_classes(carla.command).items():
        class_.__init__ = _noted(f"command.{name}", class_.__init__)


def remark(kind: str) -> None:
    """Note how the town has treated the call made last."""
    remarks[_last] = kind


def _noted(title: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        global _last
        used.add(title)
        _last = title
        return function(*arguments, **named)

    return noted


def _noted_property(title: str, original: property) -> property:
    getter = _noted(title, original.fget) if original.fget else None
    setter = _noted(title, original.fset) if original.fset else None
    return property(getter, setter, original.fdel, original.__doc__)
