"""What can be swept: each kind is a function of a run's folder and its point, and returns the numbers of its
row.

The keywords of a function are the parameters of its grid; their annotations say what a grid may give them. A
further kind is a function in ``KINDS``, or the ``sweep`` of an `Architecture`.
"""

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mechfourier.errors import UsageError, nearest
from mechfourier.models.architectures import named, with_part
from mechfourier.sweep.grid import Value

Row = dict[str, Value | bool | None]
Kind = Callable[..., Row]


def probe(
    folder: Path,
    *,
    model: str,
    domain: str = "months",
    sites: str = "resid_post",
    layers: str | None = None,
    design: str = "auto",
    cycles: int = 4,
    permutations: int = 1000,
    seed: int = 0,
) -> Row:
    """Probe a model for a domain; the row holds the best reading and the verdict, the folder the whole
    result."""
    from mechfourier.models.registry import load
    from mechfourier.probes.probe import probe as run

    result = run(
        load(model),
        domain,
        sites=sites,
        layers=layers,
        design=design,
        cycles=cycles,
        n_permutations=permutations,
        seed=seed,
    )
    result.save(folder / "result.json")
    return _scalars(result.to_dict())


def ablate(
    folder: Path,
    *,
    model: str,
    layer: int,
    dim: int,
    domain: str = "months",
    site: str = "resid_post",
    mode: str = "mean",
    cycles: int = 1,
    samples: int | None = None,
    controls: int = 200,
    seed: int = 0,
) -> Row:
    """Ablate one dimension with its matched controls."""
    from mechfourier.causal.ablate import ablate as run
    from mechfourier.domains.definition import domain as find_domain
    from mechfourier.hooks.site import Site
    from mechfourier.models.registry import load

    result = run(
        load(model),
        find_domain(domain),
        site=Site(site, layer),
        dims=[dim],
        mode=mode,
        cycles=cycles,
        n_prompts=samples,
        n_controls=controls,
        text=(),
        seed=seed,
    )
    result.save(folder / "result.json")
    return _scalars(result.to_dict())


def sae(
    folder: Path,
    *,
    model: str,
    site: str,
    architecture: str = "topk",
    width: str = "4x",
    k: int | None = None,
    penalty: float | None = None,
    tokens: int = 1_000_000,
    batch: int = 512,
    lr: float = 1e-3,
    seed: int = 0,
    domain: str | None = None,
) -> Row:
    """Train a sparse dictionary on the model's own task; with ``domain`` also score it for circles."""
    from mechfourier.models.registry import load
    from mechfourier.sae.evaluation import evaluate
    from mechfourier.sae.load import load_sae
    from mechfourier.sae.scoring import score
    from mechfourier.sae.settings import Schedule, product
    from mechfourier.sae.training import train

    loaded = load(model)
    wanted = product(
        [site],
        [architecture],
        [str(width)],
        [] if k is None else [k],
        [] if penalty is None else [penalty],
    )
    train(
        loaded,
        wanted,
        folder,
        schedule=Schedule(tokens=tokens, batch=batch, lr=lr, seed=seed),
        control=False,
        resume=True,
    )
    dictionary = load_sae(folder)
    row = _scalars(evaluate(loaded, dictionary).to_dict())
    if domain is not None:
        found = score(loaded, dictionary, domain, seed=seed)
        found.save(folder / "score.json")
        row |= _scalars(found.to_dict())
    return row


def atlas(
    folder: Path,
    *,
    model: str,
    domains: str = "all",
    quick: str = "yes",
    permutations: int = 1000,
    seed: int = 0,
) -> Row:
    """The atlas of a model with its page; the row holds a word per domain. ``quick="no"``: use as well."""
    from mechfourier.atlas.run import atlas as run

    found = run(
        [model],
        domains.replace("+", ","),
        quick=quick != "no",
        n_permutations=permutations,
        seed=seed,
        out=folder,
        n_jobs=1,
    )
    (result,) = found if isinstance(found, tuple) else (found,)
    return {"model": result.model, **{each.domain: each.word for each in result.domains}}


KINDS: dict[str, Kind] = {"probe": probe, "ablate": ablate, "sae": sae, "atlas": atlas}


def _scalars(values: dict[str, Any]) -> Row:
    """The plain numbers, words and truth values of a result; its tables stay in the folder."""
    return {name: v for name, v in values.items() if v is None or isinstance(v, (bool, int, float, str))}


def kind(name: str) -> Kind:
    """The kind of that name; raises ``UsageError`` with the nearest ones otherwise."""
    if name in KINDS:
        return KINDS[name]
    record = named(name)
    if record is None or not record.sweep:
        known = [*KINDS, *(record.name for record in with_part("sweep"))]
        raise UsageError(f"nothing to sweep is called {name!r}; closest: {nearest(name, known)}")
    return record.part("sweep")


def parameters(of: Kind) -> dict[str, inspect.Parameter]:
    """The keywords that a grid of this kind may name."""
    return {n: p for n, p in inspect.signature(of).parameters.items() if p.kind is p.KEYWORD_ONLY}


def checked(name: str, point: dict[str, Value]) -> dict[str, Value]:
    """``point`` with every value of the type its parameter wants.

    Raises ``UsageError`` for a parameter the kind does not have, one that it needs and is not given, or a
    value of another type.
    """
    function = kind(name)
    known, hints = parameters(function), typing.get_type_hints(function)
    for given in point:
        if given not in known:
            raise UsageError(
                f"{name} has no parameter {given!r}; closest: {nearest(given, known)}; known: "
                f"{', '.join(known)}"
            )
    missing = [n for n, p in known.items() if p.default is p.empty and n not in point]
    if missing:
        raise UsageError(
            f"{name} needs {' and '.join(missing)}; add --grid {missing[0]}=… or --set {missing[0]}=…"
        )
    return {given: _fitting(given, value, hints[given]) for given, value in point.items()}


def _fitting(name: str, value: Value, hint: Any) -> Value:
    """A number where a number is wanted, text where text is; an int passes for a float."""
    wanted = next((t for t in typing.get_args(hint) if t is not type(None)), hint)
    if wanted is str:
        return str(value)
    if isinstance(value, str) or (wanted is int and float(value) != int(value)):
        raise UsageError(f"{name}={value} is no {'whole ' if wanted is int else ''}number")
    return wanted(value)
