"""The facts that travel inside a model file: what its ids mean, what frames it wants, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from roadworthy.runtime.confidence import ConfidenceReference
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE, TAXONOMIES, Taxonomy, get_taxonomy

# Without these nobody can tell what a label id means or what frame to feed; the rest is provenance and may be unknown.
REQUIRED = ("taxonomy", "class_names", "palette", "ignore_id", "height", "width")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says about itself. Stored as ONNX `metadata_props`: plain strings, lists and numbers as JSON."""

    taxonomy: str  # name of the taxonomy, see `runtime.taxonomy`
    class_names: tuple[str, ...]  # in the order of the label ids
    palette: tuple[tuple[int, int, int], ...]  # RGB per class
    ignore_id: int  # the label that training skipped; the model never predicts it
    height: int  # [pixels] of the frames the model takes
    width: int  # [pixels]
    objective: str = UNKNOWN  # how it learned: cross-entropy, gambling, wasserstein, ...
    architecture: str = UNKNOWN  # enet, ...
    revision: str = UNKNOWN  # git revision of the code that exported it
    licence: str = UNKNOWN  # SPDX name of the weights' licence
    roadworthy_version: str = UNKNOWN
    source: str = UNKNOWN  # name of the run it was exported from
    precision: str = UNKNOWN  # fp32, fp16 or int8
    groups: Mapping[str, tuple[str, ...]] | None = None  # importance groups of a taxonomy that is the user's own
    confidence_reference: ConfidenceReference | None = None  # mean confidence per frame on known data; None: not measured

    @classmethod
    def of(cls, taxonomy: Taxonomy, *, ignore_id: int, height: int, width: int, **provenance: str) -> ModelMetadata:
        """Fill in names and palette from `taxonomy`; `provenance` takes the optional text fields by name."""
        groups = None if taxonomy.name in TAXONOMIES else {str(key): tuple(names) for key, names in taxonomy.groups.items()}
        known = cls(taxonomy.name, taxonomy.classes, taxonomy.palette, ignore_id, height, width, groups=groups)
        return replace(known, **provenance)  # type: ignore[arg-type]  # only the text fields come this way

    def lookup_taxonomy(self) -> Taxonomy:
        """Return the taxonomy that this model predicts in: a shipped one, or the user's own as the metadata describe it."""
        if self.taxonomy in TAXONOMIES or self.groups is None:
            return get_taxonomy(self.taxonomy)
        groups = {int(group): tuple(names) for group, names in self.groups.items()}
        ids = {index: index for index in range(len(self.class_names))}
        return Taxonomy(self.taxonomy, self.class_names, self.palette, groups, ids | {IGNORE: IGNORE})

    def to_props(self) -> dict[str, str]:
        """Write every field as a string, ready for ONNX `metadata_props`."""
        present = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in present.items()}

    @classmethod
    def from_props(cls, props: Mapping[str, str], source: str) -> ModelMetadata:
        """Read what `to_props` wrote. Raises `BadInput` naming `source` and the key that is missing, broken or wrong."""
        missing = [key for key in REQUIRED if key not in props]
        if missing:
            keys = ", ".join(repr(key) for key in missing)
            raise BadInput(
                f"{source}: the model's metadata lacks {keys}, so its label ids mean nothing; export it with "
                "'roadworthy export RUN', which writes them"
            )
        values: dict[str, object] = {field.name: props[field.name] for field in fields(cls) if field.name in props}
        for key in ("class_names", "palette", "ignore_id", "height", "width"):
            try:
                values[key] = json.loads(props[key])
            except ValueError as error:
                raise BadInput(f"{source}: metadata {key!r} is not JSON ({error}); export the model again") from error
        for key in ("ignore_id", "height", "width"):
            number = values[key]
            if type(number) is not int or not 0 <= number < 1 << 16:
                raise BadInput(
                    f"{source}: metadata {key!r} is {number!r}, expected a small whole number; export the model again"
                )
        names, palette = values["class_names"], values["palette"]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise BadInput(
                f"{source}: metadata 'class_names' is {_brief(names)}, expected a list of names; export the model again"
            )
        own = _groups(props["groups"], names, source) if "groups" in props and props["taxonomy"] not in TAXONOMIES else None
        values["groups"] = own
        taxonomy = None if own is not None else _known_taxonomy(props["taxonomy"], source)
        if taxonomy is not None and tuple(names) != taxonomy.classes:
            raise BadInput(
                f"{source}: metadata 'class_names' ({_brief(names)}) differ from taxonomy {taxonomy.name!r} "
                f"({_brief(list(taxonomy.classes))}); it was exported with another version: export the model again"
            )
        if not isinstance(palette, list) or not all(_is_colour(colour) for colour in palette) or len(palette) != len(names):
            raise BadInput(f"{source}: metadata 'palette' must be {len(names)} RGB triples of 0..255; export the model again")
        reference = props.get("confidence_reference")
        values["confidence_reference"] = None if reference is None else ConfidenceReference.parse(reference, source)
        values["class_names"] = tuple(names)
        values["palette"] = tuple(tuple(colour) for colour in palette)
        return cls(**values)  # type: ignore[arg-type]  # every field was checked above


def _groups(text: str, names: list[str], source: str) -> dict[str, tuple[str, ...]]:
    """Read the importance groups of a user's own taxonomy; every class must be in exactly one."""
    try:
        found = json.loads(text)
        groups = {str(int(key)): tuple(map(str, members)) for key, members in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{source}: metadata 'groups' is not importance groups ({error}); export the model again") from error
    if sorted(name for members in groups.values() for name in members) != sorted(names):
        raise BadInput(f"{source}: metadata 'groups' must name each of the {len(names)} classes once; export the model again")
    return groups


def _known_taxonomy(name: str, source: str) -> Taxonomy:
    """Look up a taxonomy, with the model's name in the error."""
    try:
        return get_taxonomy(name)
    except BadInput as error:
        raise BadInput(f"{source}: {error}; was it exported by a newer version of roadworthy?") from error


def _is_colour(value: object) -> bool:
    """Tell whether `value` is an RGB triple of 0..255."""
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)


def _brief(names: object) -> str:
    """Write a class list in a few words."""
    return f"{len(names)}: {', '.join(map(str, names[:3]))}, ..." if isinstance(names, list) else repr(names)
