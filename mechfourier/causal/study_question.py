"""What a study asks, and where it looks."""

from mechfourier.causal.plane import stream_sites
from mechfourier.causal.task import has_logits
from mechfourier.domains.definition import Domain
from mechfourier.domains.task_choice import Choice, choose_task
from mechfourier.errors import UsageError
from mechfourier.hooks.site import Site, find_site, model_name
from mechfourier.models.interface import Model


class Unasked(Exception):
    """Why nothing can be asked."""


def sites_of(model: Model, site: Site | str | None) -> tuple[Site, ...]:
    """The hook point asked for, or the residual stream after every block, and the embedding."""
    if site is not None:
        return (find_site(model, site),)
    return tuple(stream_sites(model))


def choice_of(model: Model, domain: Domain, task: str | None) -> Choice | None:
    """What to ask; None for a model without logits. Raises ``Unasked`` where the domain asks nothing."""
    if not has_logits(model):
        if task is not None:
            raise UsageError(f"{model_name(model)} has no logits, so it is asked no task; leave task out")
        return None
    try:
        return choose_task(model, domain, task)
    except UsageError as error:
        if domain.tasks or domain.operation is not None:
            raise
        raise Unasked(str(error)) from error
