"""Which backend is taken, and that it is said why. The measuring is tested with made-up candidates of known speed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from roadworthy.runtime import load
from roadworthy.runtime.backends import Placement
from roadworthy.runtime.backends.onnxruntime import gpu_providers
from roadworthy.runtime.choice import Choice, _race, choose
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata

MakeModel = Callable[..., Path]

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime would take the GPU"
)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here now, these tests are of a quiet machine."""
    monkeypatch.setattr("roadworthy.runtime.choice._is_busy", lambda: False)


def _never(choice: Choice) -> Callable[[], object]:
    raise AssertionError(f"{choice} was opened to be measured")


def test_with_threads_given_nothing_is_measured(make_model: MakeModel, metadata: ModelMetadata) -> None:
    path = make_model()
    float_model = choose(path, metadata, "auto", 1, "auto", _never)
    assert (float_model.backend, float_model.placement) == ("onnxruntime", Placement("cpu", 1))
    assert "nothing was measured" in float_model.reason
    assert choose(path, replace(metadata, precision="int8"), "cpu", 2, "auto", _never).backend == "openvino"


def test_asked_for_is_asked_for(make_model: MakeModel) -> None:
    segmenter = load(make_model(), backend="openvino")
    assert segmenter.reason == "asked for"
    assert segmenter.backend.startswith("openvino")


def test_a_measured_choice_is_remembered(make_model: MakeModel, cache: Path) -> None:
    path = make_model()
    first = load(path)
    assert first.reason.startswith("fastest on this machine: onnxruntime ")
    assert "openvino" in first.reason
    assert len(list((cache / "roadworthy" / "choices").iterdir())) == 1
    second = load(path)
    assert second.reason == f"{first.reason} (measured earlier)"
    assert second.backend == first.backend


def test_a_broken_memory_is_measured_again(make_model: MakeModel, cache: Path) -> None:
    path = make_model()
    load(path)
    (memory,) = (cache / "roadworthy" / "choices").iterdir()
    memory.write_text('{"backend": "onnxruntime"}')
    assert "measured earlier" not in load(path).reason
    assert "measured earlier" in load(path).reason


def test_on_a_busy_machine_nothing_spins_and_nothing_is_remembered(
    make_model: MakeModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadworthy.runtime.choice._is_busy", lambda: True)
    segmenter = load(make_model())
    assert "spinning" not in segmenter.reason
    assert segmenter.reason.endswith("not remembered")
    assert not (cache / "roadworthy").exists()


def test_another_model_is_another_choice(make_model: MakeModel, cache: Path) -> None:
    load(make_model(name="a.onnx"))
    load(make_model(name="b.onnx", outputs=("labels",)))
    assert len(list((cache / "roadworthy" / "choices").iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_memory(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "fastest" in load(make_model()).reason


class Clock:
    """A clock that only candidates move: what they take is exact, however busy this machine is."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: dict[str, int] = {}

    def perf_counter(self) -> float:
        return self.now_s

    def candidates(self, **pause_s: float) -> tuple[list[Choice], Callable[[Choice], Callable[[], object]]]:
        def open_candidate(choice: Choice) -> Callable[[], object]:
            def call() -> None:
                self.now_s += pause_s[choice.backend]
                self.calls[choice.backend] = self.calls.get(choice.backend, 0) + 1

            return call

        return [Choice(name, Placement(), "") for name in pause_s], open_candidate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("roadworthy.runtime.choice.time", fake)
    return fake


def test_the_fastest_wins_and_the_first_wins_ties(clock: Clock) -> None:
    choice = _race(*clock.candidates(slow=0.020, quick=0.010))
    assert choice.backend == "quick"
    assert choice.reason == "fastest on this machine: slow 20.00 ms, quick 10.00 ms"
    assert _race(*clock.candidates(first=0.0104, second=0.0100)).backend == "first"  # within the margin
    assert _race(*clock.candidates(first=0.0106, second=0.0100)).backend == "second"


def test_slow_models_are_timed_once_each(clock: Clock) -> None:
    _race(*clock.candidates(a=3.0, b=2.0))
    assert clock.calls == {"a": 1, "b": 1}
    clock.calls.clear()
    _race(*clock.candidates(a=0.001, b=0.002))
    assert clock.calls == {"a": 29, "b": 29}  # 15 that count, and one before each but the first


def test_what_the_candidate_before_left_running_does_not_count(clock: Clock) -> None:
    last = [""]

    def open_candidate(choice: Choice) -> Callable[[], object]:
        def call() -> None:
            disturbed = 0.010 if choice.backend == "calm" and last[0] == "spins" else 0.0
            clock.now_s += {"calm": 0.010, "spins": 0.014}[choice.backend] + disturbed
            last[0] = choice.backend

        return call

    assert _race([Choice("spins", Placement(), ""), Choice("calm", Placement(), "")], open_candidate).backend == "calm"


def test_a_candidate_that_cannot_open_drops_out(clock: Clock) -> None:
    choices, open_candidate = clock.candidates(broken=0.001, works=0.002)

    def open_some(choice: Choice) -> Callable[[], object]:
        if choice.backend == "broken":
            raise BadInput("no")
        return open_candidate(choice)

    assert _race(choices, open_some).backend == "works"
    with pytest.raises(BadInput, match="no"):
        _race(choices[:1], open_some)


def test_a_gpu_build_without_a_gpu_measures_the_cpu(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr("roadworthy.runtime.choice.cuda_devices", lambda: 0)
    assert "fastest on this machine" in load(make_model()).reason


def test_a_gpu_that_does_not_start_is_said(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadworthy.runtime.choice._onnxruntime_has_cuda", lambda: True)
    segmenter = load(make_model())
    assert segmenter.backend.startswith("onnxruntime (cpu")
    assert segmenter.reason.startswith("its CUDA provider did not start")


def test_providers_are_asked_for_best_first() -> None:
    every = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def names(available: list[str], kind: str) -> list[str]:
        return [one if isinstance(one, str) else one[0] for one in gpu_providers(available, kind, 1)]

    assert names(every, "auto") == every
    assert names(every, "cpu") == ["CPUExecutionProvider"]
    assert names(every[1:], "cuda") == every[1:]
    assert all(one[1]["device_id"] == 1 for one in gpu_providers(every, "cuda", 1) if not isinstance(one, str))
