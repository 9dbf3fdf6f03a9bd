"""``mechfourier serve``: the pages of many runs in a browser."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import note, quiet_libraries


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or folders that hold runs and saved results.")],
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; anything but this machine's own is open to others."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port (0: any free one).", min=0, max=65535)] = 8113,
) -> None:
    """Serve runs and results as pages: a list with overlaid curves, and a report of each. Read-only, on this
    machine by default."""
    quiet_libraries()
    from mechfourier.errors import need
    from mechfourier.figures.site import make_site

    uvicorn = need("uvicorn", extra="serve")
    local = host in ("127.0.0.1", "localhost", "::1")
    site = make_site(runs, hosts=("127.0.0.1", "localhost", "[::1]", host) if local else ("*",))
    if not local:
        note(f"listening on {host}: everyone who reaches this machine can read these runs")
    server = uvicorn.Server(uvicorn.Config(site, host=host, port=port, log_level="warning", lifespan="off"))
    listening = _listen(host, port)
    note(
        f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{listening.getsockname()[1]}/  (Ctrl-C ends it)"
    )
    server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises ``UsageError`` where the port is taken or the address is not this
    machine's."""
    from mechfourier.errors import UsageError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port or --host"
        ) from error
