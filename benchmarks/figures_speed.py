"""How large a report of 20 figures is and how fast it opens, and how long animations take.

    OMP_NUM_THREADS=1 python -m benchmarks.figures_speed

Bars: the report under 12 MB and open in under 2 s; the player of 200 checkpoints and a video of 300 frames at
1280 × 720 in under 60 s each on two cores. The run is a mixture of untrained and closed-form weights, p = 113
(the work does not depend on the values). Processor seconds (with those of ffmpeg) are given beside the wall
clock, since another program may hold the cores. Opening is timed in a headless Chromium until the page has
loaded with the figures on its first screen drawn (its processor seconds: those of the page's main thread).
Writes benchmarks/results/figures_speed.json.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.analysis_speed import write_run
from mechfourier.figures.animation import write_player
from mechfourier.figures.png import find_chromium
from mechfourier.figures.report import write_report
from mechfourier.figures.scene import scene
from mechfourier.figures.video import write_video
from mechfourier.files import write_json
from mechfourier.results.provenance import machine
from mechfourier.toys.one_layer import evolution

RESULTS = Path(__file__).parent / "results" / "figures_speed.json"
FIRST_SCREEN = """Array.from(document.querySelectorAll('.figure')).filter(f => f.getBoundingClientRect().top < innerHeight)
  .every(f => f.dataset.state === 'drawn')"""


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Outcome, wall seconds and processor seconds, those of child processes included."""
    before, start = os.times(), time.perf_counter()
    made = work()
    after = os.times()
    spent = sum(after[i] - before[i] for i in range(4))
    return made, {"seconds": time.perf_counter() - start, "processor_seconds": spent}


def open_page(path: Path) -> dict[str, float]:
    """Seconds until the page is there and its first screen is drawn, and until every figure is."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        view.goto("about:blank")
        inspector = view.context.new_cdp_session(view)
        inspector.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = time.perf_counter()
        view.goto(path.as_uri())
        view.wait_for_function(FIRST_SCREEN)
        first = time.perf_counter() - start
        spent = {m["name"]: m["value"] for m in inspector.send("Performance.getMetrics")["metrics"]}[
            "TaskDuration"
        ]
        view.wait_for_function(
            "Array.from(document.querySelectorAll('.figure')).every(f => f.dataset.state === 'drawn')"
        )
        every = time.perf_counter() - start
        figures = view.locator(".figure").count()
        browser.close()
    return {
        "figures": figures,
        "seconds_to_first_screen": first,
        "processor_seconds_to_first_screen": spent,
        "seconds_to_every_figure": every,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--p", type=int, default=113)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_run(folder / "short", options.p, 12)
        write_run(folder / "run", options.p, 300)
        found: dict[str, Any] = {"p": options.p, "machine": machine(), "load_average": os.getloadavg()[0]}
        page, spent = timed(
            lambda: write_report([folder / "short", folder / "short"], folder / "report.html")
        )
        found["report"] = {"bytes": page.stat().st_size, **spent, **open_page(page)}
        (_, spent) = timed(
            lambda: write_player(evolution(folder / "run", "circle", max_frames=200), folder / "circle.html")
        )
        found["circle_player_of_200_checkpoints"] = spent
        shown = scene(evolution(folder / "run", "circle"))
        for suffix in (".mp4", ".gif"):
            path, spent = timed(lambda suffix=suffix: write_video(shown, folder / f"circle{suffix}"))
            found[f"video_of_300_frames{suffix}"] = {"bytes": path.stat().st_size, **spent}
    write_json(options.out, found)
    for name, value in found.items():
        print(name, value)


if __name__ == "__main__":
    main()
