"""A small read-only site over a folder of runs: ``mechfourier serve``. Pages are those of the report, made
when they are asked for.

A run is found by its name in a list made from the folder, never by a path out of the address, so no address
leads outside. Only GET and HEAD are answered, and only for the host names it was started for.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mechfourier.drawing.html import Part, Section, block, half, plotly_script, report_page
from mechfourier.errors import MechFourierError, UsageError, need
from mechfourier.figures.report import config_of, is_run, report, saved_results
from mechfourier.results.saved import read
from mechfourier.training.figures import overlay_figure
from mechfourier.training.run_folder import METRICS, RunFolder

if TYPE_CHECKING:
    import pandas as pd

METRICS_SHOWN = (
    ("test_loss", "test loss (nats)"),
    ("test_accuracy", "test accuracy"),
    ("train_loss", "train loss (nats)"),
)
PLOTLY = "/plotly.js"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src "
    "'unsafe-inline'; "
    "img-src "
    "data: "
    "blob:",
}


def find_runs(roots: Sequence[str | Path]) -> dict[str, Path]:
    """Runs and folders of results by name: each root itself, or the folders directly in it. Symbolic links
    that lead out of their root are left out. Raises ``UsageError`` where there is nothing to show."""
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        if not root.is_dir():
            raise UsageError(f"{root} is no folder; give folders that hold runs")
        for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
            inside = folder.resolve().is_relative_to(root.resolve())
            if inside and (is_run(folder) or saved_results(folder)):
                found[_free(folder.resolve().name, found)] = folder
    if not found:
        raise UsageError(
            f"{', '.join(map(str, roots))} holds no run (config.json) and no saved result (.json)"
        )
    return found


def _free(name: str, taken: dict[str, Path]) -> str:
    count = 2
    while (tried := name if count == 2 and name not in taken else f"{name} ({count})") in taken:
        count += 1
    return tried


def index_page(runs: dict[str, Path]) -> str:
    """The list of runs, their last metrics and their curves over each other."""
    histories = {name: RunFolder(path).read_metrics() for name, path in runs.items()}
    trained = {name: path for name, path in runs.items() if is_run(path)}
    sections = []
    if len(found := result_table(runs)):
        sections.append(Section("Results", found, "What each saved result found. Click a heading to sort."))
    if trained:
        sections.append(Section("Runs", run_table(trained, histories), "Click a heading to sort."))
    card = block("links", "Open a run", [(f"/run/{quote(name, safe='')}", name) for name in runs])
    for column, axis in METRICS_SHOWN:
        shown = {name: frame for name, frame in histories.items() if column in frame.columns}
        if shown:
            sections.append(half(axis.capitalize(), overlay_figure(shown, column, axis=axis)))
    return report_page(
        "mechfourier runs", [Part("", sections, card=card)], lead=f"{len(runs)} folders.", plotly=PLOTLY
    )


def result_table(runs: dict[str, Path]) -> "pd.DataFrame":
    """One row per saved result: where it lies, the command, model and domain, and its verdict (the first line
    that it prints)."""
    import pandas as pd

    rows = []
    for name, folder in runs.items():
        for path in saved_results(folder):
            opened = read(path).result
            summary = isinstance(opened, dict)
            rows.append(
                {
                    "folder": name,
                    "file": path.name,
                    "command": "summary" if summary else opened.about.command or opened.about.name,
                    "model": "" if summary else str(getattr(opened, "model", "")),
                    "domain": "" if summary else str(getattr(opened, "domain", "")),
                    "found": "" if summary else str(opened).partition("\n")[0],
                }
            )
    return pd.DataFrame(rows)


def run_table(runs: dict[str, Path], histories: "dict[str, pd.DataFrame]") -> "pd.DataFrame":
    """One row per run: its configuration in short, its last metrics."""
    import pandas as pd

    rows = []
    for name, path in runs.items():
        config = config_of(path)
        training = config.get("training") if isinstance(config.get("training"), dict) else {}
        recipe = training.get("recipe") if isinstance(training, dict) else None
        row: dict[str, Any] = {
            "run": name,
            "architecture": str(config.get("architecture", config.get("model_type", ""))),
        }
        row |= {"p": config.get("p"), "recipe": recipe.get("name") if isinstance(recipe, dict) else None}
        row |= {"seed": training.get("seed") if isinstance(training, dict) else None}
        frame = histories[name]
        last = frame.ffill().iloc[-1] if len(frame) else {}
        for column in ("step", "seconds", "train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            row[column] = float(last[column]) if column in last else float("nan")
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


class _Pages:
    """Pages made once and kept until the run's metrics change. One at a time: an analysis fills the cores."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[float, str]] = {}
        self.lock = threading.Lock()

    def get(self, name: str, path: Path, make: Callable[[], str]) -> str:
        with self.lock:
            marks = [path / METRICS, *path.glob("*.json")]
            stamp = max((m.stat().st_mtime for m in marks if m.exists()), default=0.0)
            if name not in self.kept or self.kept[name][0] != stamp:
                self.kept[name] = (stamp, make())
            return self.kept[name][1]


def make_site(roots: Sequence[str | Path], *, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> Any:
    """The Starlette application. ``hosts``: names it answers to (another page in the reader's browser could
    point its own at it).

    Raises ``MissingExtra`` without the extra ``serve``, ``UsageError`` where the folders hold nothing.
    """
    need("starlette", extra="serve")
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    runs, pages = find_runs(roots), _Pages()

    def respond(make: Callable[[], str]) -> Response:
        try:
            return HTMLResponse(make(), headers=HEADERS)
        except MechFourierError as error:
            return HTMLResponse(_sorry("This cannot be shown", str(error)), status_code=422, headers=HEADERS)

    def index(_request: Request) -> Response:
        return respond(lambda: index_page(runs))

    def run(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in runs:
            return HTMLResponse(
                _sorry("No such run", f"{name!r} is not in the list."), status_code=404, headers=HEADERS
            )
        return respond(lambda: pages.get(name, runs[name], lambda: report([runs[name]], plotly=PLOTLY)))

    def library(_request: Request) -> Response:
        cached = {**HEADERS, "Cache-Control": "max-age=86400"}
        return Response(plotly_script(), media_type="text/javascript", headers=cached)

    routes = [
        Route("/", index),
        Route("/run/{name}", run),
        Route(PLOTLY, library),
        Route("/favicon.ico", lambda _request: Response(status_code=204)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


def _sorry(title: str, sentence: str) -> str:
    return report_page(title, [Part("", [Section("What happened", [sentence])])])
