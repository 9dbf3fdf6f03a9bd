"""Bars of what a user waits for: figures and start-up."""

from benchmarks.bars.bar import Bar, as_clock, as_seconds

BARS: tuple[Bar, ...] = (
    Bar(
        "Figures",
        "a report of 20 figures",
        "figures_speed",
        12,
        "<=",
        "12 MB",
        lambda d: (d["report"]["bytes"] / 1e6, f"{d['report']['bytes'] / 1e6:.1f} MB"),
    ),
    Bar(
        "Figures",
        "the same, opened in a browser",
        "figures_speed",
        2,
        "<=",
        "2 s",
        lambda d: as_clock(d["report"]["seconds_to_first_screen"]),
    ),
    Bar(
        "Figures",
        "circle player of 200 checkpoints",
        "figures_speed",
        60,
        "<=",
        "60 s",
        lambda d: as_clock(d["circle_player_of_200_checkpoints"]["seconds"]),
    ),
    Bar(
        "Figures",
        "video of 300 frames, 1280 × 720",
        "figures_speed",
        60,
        "<=",
        "60 s on 2 cores",
        lambda d: as_clock(d["video_of_300_frames.mp4"]["seconds"]),
    ),
    Bar(
        "Start-up",
        "mechfourier --help",
        "startup",
        0.5,
        "<=",
        "0.5 s",
        lambda d: as_seconds(d["help"]["processor_seconds"], d["help"]["seconds"]),
    ),
    Bar(
        "Start-up",
        "import mechfourier",
        "startup",
        0.2,
        "<=",
        "0.2 s",
        lambda d: as_seconds(d["import"]["processor_seconds"], d["import"]["seconds"]),
    ),
)
