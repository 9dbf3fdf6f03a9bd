"""What is asked: domain files, designs (prompts as a grid), their tokens, tasks and answers. Names are loaded on first use."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

_PUBLIC = {
    "Domain": ".definition",
    "domain": ".definition",
    "list_domains": ".definition",
    "Design": ".design",
    "read_positions": ".design",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy(__name__, _PUBLIC)

if TYPE_CHECKING:
    from mechfourier.domains.definition import Domain, domain, list_domains
    from mechfourier.domains.design import Design, read_positions
