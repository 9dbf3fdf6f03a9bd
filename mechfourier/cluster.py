"""A connection to a Ray cluster: one that runs, or one started here."""

import socket
from typing import Any

from mechfourier.errors import UsageError, need

KNOCK_SECONDS = 5.0


def connect(address: str | None) -> tuple[Any, bool]:
    """Ray, connected, and whether it was us who connected (who connects shuts down). ``address``: ``"auto"``
    for the running cluster, ``host:port``, or None to start one here.

    Raises ``MissingExtra`` without Ray, ``UsageError`` where nobody answers at the address.
    """
    ray: Any = need("ray", extra="ray")
    if ray.is_initialized():
        return ray, False
    try:
        _knock(address)
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except (OSError, ValueError) as error:  # ray raises ConnectionError, an OSError
        raise UsageError(
            f"no Ray cluster answers at {address!r}; start one with: ray start --head, or leave --address out"
        ) from error
    return ray, True


def _knock(address: str | None) -> None:
    """Raise ``OSError`` or ``ValueError`` where nobody listens at ``host:port``: Ray itself would try for
    many minutes."""
    if address in (None, "auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
