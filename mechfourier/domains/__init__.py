"""What is asked: domain files, designs (prompts as a grid), their tokens, tasks and answers. Names are loaded
on first use."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.domains.definition import (
        Domain as Domain,
        domain as domain,
        list_domains as list_domains,
    )
    from mechfourier.domains.design import Design as Design, read_positions as read_positions

__getattr__, __dir__ = lazy(__name__)
