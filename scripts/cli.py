"""The `roadworthy` command: one verb per file, loaded only when it is called so that `--help` is instant."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import click
from rich.console import Console
from rich.markup import escape

from roadworthy.runtime.errors import RoadworthyError

# verb -> (module, one line of help); the order is the order of the work
VERBS = {
    "town": ("roadworthy.scripts.town", "Run the embedded CARLA 0.9.16 server for any CARLA script."),
    "record": ("roadworthy.scripts.record", "Record camera and semantic frames from a CARLA server."),
    "train": ("roadworthy.scripts.train", "Train a segmenter with an objective."),
    "layouts": ("roadworthy.scripts.layouts", "Learn what label maps look like and make new ones (SemGAN)."),
    "dream": ("roadworthy.scripts.dream", "Paint generated layouts as frames to train with (pix2pix)."),
    "adapt": ("roadworthy.scripts.adapt", "Try what learning without labels gives: camera to camera, town to CamVid."),
    "export": ("roadworthy.scripts.export", "Turn a run or ONNX file into a model file: ONNX, OpenVINO, TensorRT, Triton."),
    "adopt": ("roadworthy.scripts.adopt", "Make somebody else's segmentation network (ONNX) a model of ours."),
    "predict": ("roadworthy.scripts.predict", "Write what a model sees: overlays for images, videos, cameras, CARLA."),
    "evaluate": ("roadworthy.scripts.evaluate", "Score a model on labelled data: mIoU, BF-score, severity, confidence."),
    "bench": ("roadworthy.scripts.bench", "Measure a model's latency on this machine."),
    "serve": ("roadworthy.scripts.serve", "Put a model behind Triton: HTTP, gRPC, metrics, dynamic batching."),
    "drive": ("roadworthy.scripts.drive", "Let a model's latents drive: demonstrate, learn, evaluate."),
    "ground": ("roadworthy.scripts.ground", "Learn what each misclassification costs, by driving."),
    "compare": ("roadworthy.scripts.compare", "Do all of it for several objectives and write one report."),
    "report": ("roadworthy.scripts.report", "Write a finished study's page and figures again, from its files alone."),
    "doctor": ("roadworthy.scripts.doctor", "Tell what this machine has and what each missing piece would give."),
}


class VerbGroup(click.Group):
    """A click group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of verb `cmd_name` and return its `command`."""
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(VERBS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; errors that a user can act on become one message and an exit code."""
        with readable_errors(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextmanager
def readable_errors(*, debug: bool) -> Iterator[None]:
    """Print a `RoadworthyError` as one message and exit with its code (2 bad input, 1 failure); `debug` shows the traceback."""
    try:
        yield
    except RoadworthyError as error:
        if debug:
            raise
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run the same command again to continue where the stage allows it")
        sys.exit(130)


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(version("roadworthy"), prog_name="roadworthy")
def main(debug: bool) -> None:
    """Which of my road-scene segmenters is fit to drive?

    Train segmenters with different losses, compile them for the vehicle, let them drive closed-loop in CARLA (or in the
    embedded town, which needs neither CARLA nor a GPU), and compare them by accuracy, latency and infractions.
    """


if __name__ == "__main__":
    main()
