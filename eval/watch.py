"""A study's state in the browser while it runs, and its report when it is done: a small server on this machine only."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from markupsafe import Markup

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.runner import Progress, read_marker
from roadworthy.eval.schedule import Job
from roadworthy.runtime.errors import BadInput

REFRESH_S = 2  # [s] between two looks of the browser
STYLE = (
    ":root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; "
    "padding: 0 1rem; } progress { width: 100%; height: 1.4rem; } td { padding: 2px 14px 2px 0; } .done { opacity: .6; }"
)


class Watch:
    """Serves a study at http://127.0.0.1:PORT/ until it is closed."""

    def __init__(self, folder: StudyFolder, title: str, jobs: list[Job], port: int = 0) -> None:
        """Bind the server; port 0 takes a free one. Raises `BadInput` when the port is taken."""
        self._folder, self._title, self._jobs = folder, title, jobs
        self._progress = Progress("starting", 0.0, 0.0, 0.0, 0, len(jobs))
        self._finished = False
        watch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watch._answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing: the terminal shows the study."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"port {port} cannot be used for --watch ({error}); choose another one, or 0 for a free one"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch", daemon=True)

    @property
    def address(self) -> str:
        """Where the browser finds it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def update(self, progress: Progress) -> None:
        """Take in how far the study is."""
        self._progress = progress

    def finish(self) -> None:
        """Serve the report from now on."""
        self._finished = True

    def __enter__(self) -> Watch:
        """Start serving."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == "/status.json":
            body, kind = json.dumps(self._state()).encode(), "application/json"
        elif request.path == "/":
            body, kind = self._page(), "text/html; charset=utf-8"
        else:
            request.send_error(HTTPStatus.NOT_FOUND)
            return
        request.send_response(HTTPStatus.OK)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Cache-Control", "no-store")
        request.end_headers()
        request.wfile.write(body)

    def _state(self) -> dict[str, object]:
        now = self._progress
        done = {job.name: marker["seconds"] for job in self._jobs if (marker := read_marker(self._folder.stage(job.name)))}
        return {
            "title": self._title,
            "finished": self._finished,
            "text": now.text,
            "fraction": now.fraction,
            "elapsed_s": now.elapsed_s,
            "left_s": now.left_s,
            "jobs": [{"name": job.name, "text": job.text, "seconds": done.get(job.name)} for job in self._jobs],
        }

    def _page(self) -> bytes:
        if self._finished:
            return self._folder.report.read_bytes()
        now, state = self._progress, self._state()
        jobs = state["jobs"]
        assert isinstance(jobs, list)
        rows = Markup("").join(
            Markup('<tr class="{}"><td>{}</td><td>{}</td></tr>').format(
                "done" if job["seconds"] is not None else "",
                job["text"],
                "" if job["seconds"] is None else f"{job['seconds']:.0f} s",
            )
            for job in jobs
        )
        page = Markup(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{0}">'
            '<link rel="icon" href="data:,"><title>{1}</title><style>{2}</style></head><body><h1>{1}</h1>'
            '<progress value="{3:.4f}" aria-label="how far the study is"></progress><p>{4:.0%}: {5}</p>'
            "<p>{6:.1f} minutes gone, about {7:.1f} left. The report appears here when it is done.</p>"
            "<table>{8}</table></body></html>"
        ).format(
            REFRESH_S,
            self._title,
            Markup(STYLE),
            now.fraction,
            now.fraction,
            now.text,
            now.elapsed_s / 60,
            now.left_s / 60,
            rows,
        )
        return str(page).encode()
