"""``mechfourier doctor``: versions, devices, caches, models, and what to do about what is missing."""

from typing import TYPE_CHECKING

import typer

from mechfourier.cli.cache import readable
from mechfourier.cli.common import emit_json, quiet_libraries
from mechfourier.cli.options import Json

if TYPE_CHECKING:
    from mechfourier.doctor import Doctor


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    as_json: Json = False,
) -> None:
    """Show versions, devices, caches, models and optional parts, and what to do about what is missing.

    Exits with 1 where something was found that will fail. Nothing is downloaded or changed.
    """
    quiet_libraries()
    from mechfourier.doctor import examine

    report = examine()
    if as_json:
        emit_json({**report.to_dict(), "healthy": report.healthy})
    else:
        typer.echo("\n".join(lines(report)))
    if not report.healthy:
        raise typer.Exit(1)


def lines(report: "Doctor") -> list[str]:
    """The report as text, what is wrong at the end, where the eye stays."""
    return [
        *_versions(report),
        "",
        *_devices(report),
        "",
        *_caches(report),
        "",
        *_models(report),
        "",
        *_extras(report),
        "",
        *_problems(report),
    ]


def _versions(report: "Doctor") -> list[str]:
    from mechfourier.doctor import SHOWN

    shown = [p for p in report.packages if p.name in SHOWN or not p.fits]
    machine = ", ".join(report.machine[key] for key in ("system", "processor") if key in report.machine)
    return [
        f"mechfourier {report.mechfourier} on {report.python} ({machine})",
        *(
            f"  {p.name:18}{p.version or 'not installed':14}{'' if p.fits else f'needs {p.wanted}'}".rstrip()
            for p in shown
        ),
    ]


def _devices(report: "Doctor") -> list[str]:
    found = report.devices
    if found is None:
        return ["devices: unknown, torch cannot be used"]
    gpus = ", ".join(found.cuda) or ("Apple MPS (only when asked for)" if found.mps else "no GPU")
    cores, memory = report.machine.get("cores", "?"), report.machine.get("memory", "? GiB")
    return [
        f"devices: {found.default} by default; {gpus}; {found.threads} threads on {cores} cores, {memory}",
        f"  {found.hint}",
    ]


def _caches(report: "Doctor") -> list[str]:
    return [
        "caches",
        *(
            f"  {c.name:14}{readable(c.bytes):>9}, {readable(c.free)} free, in {c.folder} (${c.variable})"
            for c in report.caches
        ),
    ]


def _models(report: "Doctor") -> list[str]:
    here = [m for m in report.models if m.folder is not None]
    return [
        "models",
        *(f"  {m.name:14}{m.folder}" for m in here),
        *(f"  {m.name:14}not here; {m.todo}" for m in report.models if m.folder is None),
        "  A model folder holds config.json, the tokenizer and *.safetensors.",
    ]


def _extras(report: "Doctor") -> list[str]:
    rows = [
        f"  {e.name:14}"
        + (f"lacks {', '.join(e.missing)}; run: {e.command}" if e.missing else "installed")
        + (f" ({e.purpose})" if e.purpose else "")
        for e in report.extras
    ]
    browser = report.chromium or "none found (pictures need one; Debian: apt-get install chromium)"
    return ["optional parts", *rows, f"  {'Chromium':14}{browser}"]


def _problems(report: "Doctor") -> list[str]:
    if report.healthy:
        return ["no problem found"]
    return [f"{len(report.problems)} to mend:", *(f"  - {problem}" for problem in report.problems)]
