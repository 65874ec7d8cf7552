"""Frames from any source through a segmenter to whoever reads them, with capture, network and reader working at once.

    stream = Stream(segmenter, camera_frames, policy="fresh", deadline_ms=100)
    for result in stream:  # the body of this loop is the third stage: paint, store, steer
        act_on(result.labels)
    print(stream.stats.summary())

Each stage has its thread (the reader is the caller's), and hands on through a queue of bounded length. `fresh` is for driving:
a stage that is ready takes the newest frame, older ones are dropped and counted. `lossless` is for files: a full queue makes
the stage before it wait. Leaving the loop in any way (break, an exception, Ctrl-C) stops both threads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scaling import scale_frame, scale_labels
from roadworthy.runtime.segmenter import Segmentation, Segmenter

Policy = Literal["fresh", "lossless"]
KEPT_SAMPLES = 10_000  # per stage, the latest: a stream may run for weeks
STOP_TIMEOUT_S = 5.0  # [s] for a stage to notice that it should stop; a camera that never answers is left behind

T = TypeVar("T")


class Captured(NamedTuple):
    """A frame as a source gives it."""

    pixels: npt.NDArray[np.uint8]  # [H, W, 3] RGB, of any size
    name: str = ""  # file name, frame number: whatever the reader wants to know it by


@dataclass(frozen=True)
class Segmented:
    """A frame and what the segmenter says of it."""

    name: str
    number: int  # of the frame in the source, from 0; dropped ones are counted
    pixels: npt.NDArray[np.uint8]  # [H, W, 3] as captured
    result: Segmentation  # of the frame scaled to the model's size, batch of one
    age_ms: float  # from capture until the reader got it
    late: bool  # older than the deadline
    mean_confidence: float | None  # None for a model without confidence
    unusual: str | None  # why the mean confidence is not like that of known frames, or None

    def labels(self) -> npt.NDArray[np.uint8]:
        """Return the label ids at the captured frame's size, `uint8 [H, W]`."""
        if self.result.labels is None:
            raise BadInput("the model has no labels output; export it with --outputs labels,confidence")
        return scale_labels(self.result.labels[0], *self.pixels.shape[:2])  # [1, h, w] -> [H, W]


@dataclass
class StreamStats:
    """What happened in a stream so far. Times are of the latest `KEPT_SAMPLES` frames."""

    captured: int = 0
    dropped: int = 0  # replaced by a newer frame before they were segmented, or before they were read
    delivered: int = 0
    late: int = 0
    unusual: int = 0
    stage_ms: dict[str, deque[float]] = field(
        default_factory=lambda: {stage: deque(maxlen=KEPT_SAMPLES) for stage in ("capture", "wait", "segment", "read", "age")}
    )

    def summary(self) -> dict[str, float]:
        """Return the counts, and p50 and p99 [ms] of capturing, waiting in queues, segmenting, reading, and of the age."""
        figures: dict[str, float] = {
            name: getattr(self, name) for name in ("captured", "dropped", "delivered", "late", "unusual")
        }
        for stage, samples in self.stage_ms.items():
            if samples:
                values = np.asarray(samples)
                figures[f"{stage}_p50_ms"], figures[f"{stage}_p99_ms"] = np.percentile(values, [50, 99]).tolist()
        return figures


class _Closed(Exception):
    """The other side of a queue is gone."""


class _Handover(Generic[T]):
    """A bounded queue between two stages that either drops the oldest item or makes the giver wait."""

    def __init__(self, depth: int, *, drop_oldest: bool) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._drop_oldest = drop_oldest
        self._changed = threading.Condition()
        self._finished = False  # no more items come
        self._cancelled = False  # nobody takes any more

    def give(self, item: T) -> int:
        """Hand on `item`, return how many older ones it pushed out; raises `_Closed` when nobody takes it."""
        with self._changed:
            while len(self._items) >= self._depth and not self._drop_oldest and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                raise _Closed
            dropped = 0
            while len(self._items) >= self._depth:
                self._items.popleft()
                dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def take(self) -> T:
        """Return the oldest item that is left, waiting for one; raises `_Closed` when none will come."""
        with self._changed:
            while not self._items and not self._finished and not self._cancelled:
                self._changed.wait()
            if self._cancelled or not self._items:
                raise _Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that no more items come; those that are there can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Say that nobody takes any more; a waiting giver is released."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()


class _Taken(NamedTuple):
    """A captured frame on its way to the network."""

    number: int
    frame: Captured
    scaled: npt.NDArray[np.uint8]  # [1, h, w, 3] at the model's size
    captured_s: float  # monotonic


class _Done(NamedTuple):
    """A segmented frame on its way to the reader."""

    taken: _Taken
    result: Segmentation
    waited_s: float  # before the network
    done_s: float  # monotonic


class Stream:
    """One pass of a source through a segmenter; iterate over it once."""

    def __init__(
        self,
        segmenter: Segmenter,
        source: Iterable[Captured],
        *,
        policy: Policy = "fresh",
        depth: int = 2,
        deadline_ms: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        """Prepare to run `source` through `segmenter`.

        `policy` is `fresh` or `lossless`, `depth` the length of each queue when lossless (fresh ones hold one frame), and
        `outputs` what the segmenter should return (default: all it has). Frames older than `deadline_ms` when they reach
        the reader are marked late. Raises `BadInput` for an unknown policy or output and for impossible numbers.
        """
        if policy not in ("fresh", "lossless"):
            raise BadInput(f"unknown policy {policy!r}; expected fresh or lossless")
        if depth < 1 or (deadline_ms is not None and deadline_ms <= 0):
            raise BadInput(f"depth {depth} and deadline_ms {deadline_ms} must be positive")
        segmenter.positions(outputs or segmenter.outputs)  # an unknown output is an error here, not in a thread
        self.stats = StreamStats()
        self._segmenter = segmenter
        self._source = source
        self._outputs = outputs
        self._deadline_ms = deadline_ms
        fresh = policy == "fresh"
        self._to_network: _Handover[_Taken] = _Handover(1 if fresh else depth, drop_oldest=fresh)
        self._to_reader: _Handover[_Done] = _Handover(1 if fresh else depth, drop_oldest=fresh)
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._started = False

    def __iter__(self) -> Generator[Segmented, None, None]:
        """Start the threads and yield results; errors of the source or the segmenter are raised after what came before."""
        if self._started:
            raise BadInput("a stream runs once; make a new one")
        self._started = True
        threads = [
            threading.Thread(target=self._guard, args=(stage, queue), daemon=True, name=f"stream-{stage.__name__}")
            for stage, queue in ((self._capture, self._to_network), (self._segment, self._to_reader))
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._read()
        finally:
            self.stop()
            for thread in threads:
                thread.join(STOP_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the stream: the loop over it finishes. May be called from any thread or a signal handler's thread."""
        self._to_network.cancel()
        self._to_reader.cancel()

    def _guard(self, stage: Callable[[], None], queue: _Handover[_Taken] | _Handover[_Done]) -> None:
        """Run a stage; whatever ends it ends the queue behind it, and an error is kept for the reader."""
        try:
            stage()
        except _Closed:
            pass  # the other side stopped, which is how a stream is meant to end
        except BaseException as error:  # noqa: BLE001  # it is raised again where the user can see it: in the reader's thread
            with self._lock:
                self._failure = self._failure or error
        finally:
            queue.finish()

    def _capture(self) -> None:
        """First stage: take frames from the source and scale them to the model's size."""
        try:
            size = (self._segmenter.metadata.height, self._segmenter.metadata.width)
            before = time.monotonic()
            for number, frame in enumerate(self._source):
                now = time.monotonic()
                scaled = _scale(frame, size)
                self.stats.captured += 1
                self.stats.stage_ms["capture"].append(1e3 * (now - before))
                dropped = self._to_network.give(_Taken(number, frame, scaled, now))
                with self._lock:
                    self.stats.dropped += dropped
                before = time.monotonic()
        finally:
            close = getattr(self._source, "close", None)
            if callable(close):
                close()

    def _segment(self) -> None:
        """Second stage: run the network."""
        while True:
            try:
                taken = self._to_network.take()
            except _Closed:
                return
            started = time.monotonic()
            result = self._segmenter(taken.scaled, self._outputs)
            done = time.monotonic()
            self.stats.stage_ms["segment"].append(1e3 * (done - started))
            dropped = self._to_reader.give(_Done(taken, result, started - taken.captured_s, done))
            with self._lock:
                self.stats.dropped += dropped

    def _read(self) -> Iterator[Segmented]:
        """Third stage: hand results to the caller and time what it does with them."""
        reference = self._segmenter.metadata.confidence_reference
        while True:
            try:
                done = self._to_reader.take()
            except _Closed:
                return
            now = time.monotonic()
            age_ms = 1e3 * (now - done.taken.captured_s)
            confidence = done.result.confidence
            mean = None if confidence is None else float(confidence.mean())
            unusual = None if mean is None or reference is None else reference.judge(mean)
            late = self._deadline_ms is not None and age_ms > self._deadline_ms
            self.stats.delivered += 1
            self.stats.late += late
            self.stats.unusual += unusual is not None
            self.stats.stage_ms["age"].append(age_ms)
            self.stats.stage_ms["wait"].append(1e3 * (done.waited_s + now - done.done_s))
            frame = done.taken.frame
            yield Segmented(frame.name, done.taken.number, frame.pixels, done.result, age_ms, late, mean, unusual)
            self.stats.stage_ms["read"].append(1e3 * (time.monotonic() - now))


def _scale(frame: Captured, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Check a frame and scale it to `size` (height, width): `[H, W, 3]` -> `[1, h, w, 3]`."""
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        found = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise BadInput(f"the source gave {found} for frame {frame.name!r}, expected uint8 [H, W, 3] RGB")
    return scale_frame(pixels, *size)[None]
