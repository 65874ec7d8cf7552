"""Streams with real threads: order, dropping, waiting, deadlines, and every way to stop."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roadworthy.runtime import Segmenter, load
from roadworthy.runtime.confidence import ConfidenceReference
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.stream import Captured, Stream


@pytest.fixture
def segmenter(make_model: Callable[..., Path]) -> Segmenter:
    return load(make_model(), threads=1, backend="onnxruntime")


def _coloured(channel: int, value: int = 200, height: int = 8, width: int = 16) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., channel] = value
    return pixels


def _numbered(count: int, pause_s: float = 0.0) -> Iterator[Captured]:
    for number in range(count):
        time.sleep(pause_s)
        yield Captured(_coloured(number % 3), str(number))


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stream-")]


def test_lossless_keeps_every_frame_in_order(segmenter: Segmenter) -> None:
    stream = Stream(segmenter, _numbered(30), policy="lossless", depth=2)
    results = list(stream)
    assert [result.name for result in results] == [str(number) for number in range(30)]
    assert [int(result.labels()[0, 0]) for result in results] == [number % 3 for number in range(30)]
    assert (stream.stats.captured, stream.stats.delivered, stream.stats.dropped) == (30, 30, 0)
    assert not _threads()


def test_a_slow_reader_makes_a_lossless_source_wait(segmenter: Segmenter) -> None:
    given = []

    def source() -> Iterator[Captured]:
        for number in range(100):
            given.append(number)
            yield Captured(_coloured(0), str(number))

    with closing(iter(Stream(segmenter, source(), policy="lossless", depth=2))) as results:
        next(results)
        time.sleep(0.3)  # plenty for a source that does not wait
        # one read, two in each queue, one in each stage's hands, one asked for
        assert len(given) <= 1 + 2 + 2 + 3


def test_fresh_drops_old_frames_and_counts_them(segmenter: Segmenter) -> None:
    stream = Stream(segmenter, _numbered(40, pause_s=0.005), policy="fresh")
    numbers = []
    for result in stream:
        numbers.append(result.number)
        time.sleep(0.05)  # ten times as slow as the source
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 39  # the newest frame is never the one dropped
    assert len(numbers) < 30
    assert stream.stats.delivered + stream.stats.dropped == stream.stats.captured == 40
    gaps = np.diff(numbers)
    assert gaps.max() > 1


def test_frames_of_another_size_are_scaled_and_labels_scaled_back(segmenter: Segmenter) -> None:
    pixels = np.concatenate([_coloured(0, height=24, width=32), _coloured(2, height=24, width=32)], axis=1)
    (result,) = Stream(segmenter, [Captured(pixels)], policy="lossless")
    assert result.labels().shape == (24, 64)
    assert np.array_equal(result.labels(), np.where(pixels[..., 0] > 0, 0, 2))
    assert result.pixels is pixels


def test_only_the_outputs_asked_for(segmenter: Segmenter) -> None:
    (result,) = Stream(segmenter, _numbered(1), outputs=("latent",))
    assert result.result.labels is None
    assert result.result.latent is not None
    assert result.mean_confidence is None
    with pytest.raises(BadInput, match="no labels output"):
        result.labels()
    with pytest.raises(BadInput, match="not logits"):
        Stream(segmenter, _numbered(1), outputs=("logits",))


def test_late_frames_are_marked(segmenter: Segmenter) -> None:
    stream = Stream(segmenter, _numbered(3), policy="lossless", depth=3, deadline_ms=30)
    late = []
    for result in stream:
        late.append(result.late)
        assert result.late == (result.age_ms > 30)
        time.sleep(0.1)  # the frames behind wait in the queue meanwhile
    assert late[-1]
    assert stream.stats.late == sum(late)


def test_unusual_confidence_is_flagged(segmenter: Segmenter) -> None:
    segmenter.metadata = replace(segmenter.metadata, confidence_reference=ConfidenceReference(0.7, 0.8, 0.9))
    frames = [Captured(_coloured(0, 200)), Captured(_coloured(0, 20)), Captured(_coloured(0, 255))]
    stream = Stream(segmenter, frames, policy="lossless")
    results = list(stream)
    assert results[0].unusual is None
    assert results[1].unusual is not None
    assert "below the 0.700" in results[1].unusual
    assert results[2].unusual is not None
    assert "above the 0.900" in results[2].unusual
    assert stream.stats.unusual == 2
    assert results[0].mean_confidence == pytest.approx(200 / 255, abs=1e-5)


def test_an_error_of_the_source_comes_after_its_frames(segmenter: Segmenter) -> None:
    def source() -> Iterator[Captured]:
        yield from _numbered(3)
        raise OSError("cable pulled")

    names = []
    with pytest.raises(OSError, match="cable pulled"):
        for result in Stream(segmenter, source(), policy="lossless"):
            names.append(result.name)
    assert names == ["0", "1", "2"]
    assert not _threads()


def test_an_error_of_the_segmenter_reaches_the_reader(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(segmenter._backend, "compute", broken)
    with pytest.raises(RuntimeError, match="device lost"):
        list(Stream(segmenter, _numbered(10_000, pause_s=0.001), policy="fresh"))
    assert not _threads()


def test_an_error_of_the_reader_stops_an_endless_source(segmenter: Segmenter) -> None:
    closed = threading.Event()

    def source() -> Iterator[Captured]:
        try:
            while True:
                yield Captured(_coloured(1))
        finally:
            closed.set()

    with pytest.raises(KeyboardInterrupt), closing(iter(Stream(segmenter, source()))) as results:
        next(results)
        raise KeyboardInterrupt
    assert closed.is_set()
    assert not _threads()


def test_stop_from_another_thread_ends_the_loop(segmenter: Segmenter) -> None:
    stream = Stream(segmenter, _numbered(100_000, pause_s=0.001))
    threading.Timer(0.2, stream.stop).start()
    for _ in stream:
        pass
    assert 0 < stream.stats.delivered < 100_000
    assert not _threads()


def test_a_source_of_something_else_is_named(segmenter: Segmenter) -> None:
    with pytest.raises(BadInput, match=r"float64 \[8, 16, 3\] for frame 'x'"):
        list(Stream(segmenter, [Captured(np.zeros((8, 16, 3)), "x")]))


def test_figures(segmenter: Segmenter) -> None:
    stream = Stream(segmenter, _numbered(5), policy="lossless")
    list(stream)
    figures = stream.stats.summary()
    assert figures["delivered"] == 5
    for stage in ("capture", "wait", "segment", "read", "age"):
        assert 0 <= figures[f"{stage}_p50_ms"] <= figures[f"{stage}_p99_ms"]
    assert figures["age_p50_ms"] >= figures["segment_p50_ms"]
    with pytest.raises(BadInput, match="runs once"):
        list(stream)


@pytest.mark.parametrize(("options", "message"), [({"policy": "best"}, "unknown policy"), ({"depth": 0}, "must be positive")])
def test_wrong_options(segmenter: Segmenter, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Stream(segmenter, [], **options)  # type: ignore[arg-type]
