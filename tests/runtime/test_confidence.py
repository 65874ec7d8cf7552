"""The stored range of mean confidence: measured, kept beside the model, found by `load`, and broken ones named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from roadworthy.runtime import load
from roadworthy.runtime.confidence import ConfidenceReference, read_reference, write_reference
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata


def test_percentiles_and_judgement() -> None:
    reference = ConfidenceReference.measure(np.linspace(0.5, 0.9, 101))
    assert (reference.p01, reference.p50, reference.p99) == pytest.approx((0.504, 0.7, 0.896))
    assert reference.judge(0.7) is None
    assert "0.503 is below the 0.504" in str(reference.judge(0.503))
    assert "is above the 0.896" in str(reference.judge(0.95))


def test_a_reference_beside_the_model_wins_over_the_one_inside(
    make_model: Callable[..., Path], metadata: ModelMetadata
) -> None:
    inside = json.dumps({"p01": 0.1, "p50": 0.2, "p99": 0.3})
    path = make_model(props=metadata.to_props() | {"confidence_reference": inside})
    assert load(path, threads=1).metadata.confidence_reference == ConfidenceReference(0.1, 0.2, 0.3)
    write_reference(path, ConfidenceReference(0.4, 0.5, 0.6))
    assert load(path, threads=1).metadata.confidence_reference == ConfidenceReference(0.4, 0.5, 0.6)
    assert read_reference(path.with_name("other.onnx")) is None


def test_it_travels_in_metadata(metadata: ModelMetadata) -> None:
    from dataclasses import replace

    measured = replace(metadata, confidence_reference=ConfidenceReference(0.4, 0.5, 0.6), precision="int8")
    assert ModelMetadata.from_props(measured.to_props(), "m.onnx") == measured
    assert "confidence_reference" not in metadata.to_props()


@pytest.mark.parametrize("text", ["fast", "[1, 2, 3]", '{"p01": 0.1}', '{"p01": 0.5, "p50": 0.4, "p99": 0.6}', '{"p01": NaN}'])
def test_broken_references_are_named(text: str) -> None:
    with pytest.raises(BadInput, match=r"m\.onnx: 'confidence_reference'"):
        ConfidenceReference.parse(text, "m.onnx")


def test_too_few_frames_and_impossible_values() -> None:
    with pytest.raises(BadInput, match="5 frames are too few"):
        ConfidenceReference.measure([0.5] * 5)
    with pytest.raises(BadInput, match=r"outside 0\.\.1"):
        ConfidenceReference.measure([0.5] * 30 + [1.5])
