"""What tools/fuzz.py begins with, and how it changes one value of it: real files of the package, and small
ones of every kind it writes."""

import contextlib
import copy
import gzip
import json
import random
import tempfile
import tomllib
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mechfourier

DATA = Path(mechfourier.__path__[0]) / "data"
RESULTS = Path(__file__).parents[1] / "tests" / "data" / "figures.json.gz"
MEASURED = ("dose", "tasks", "adder-accuracy")
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "\ud800",
    "../../x",
    "٣",
    "[" * 50,
    [],
    [[]],
    {},
    {"": None},
    "{value}",
    "1e400",
    "a=b",
)

# seeds


def domain_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted((DATA / "domains").glob("*.toml"))]


def axis_seeds() -> list[bytes]:
    return [
        b"p=53,71\nseed=0:8",
        b"lr=0.3:3:8",
        b"weight-decay=0.3:3:8:log",
        b"recipe=fast,classic\nwd=1e-3,1.0",
    ]


def result_seeds() -> list[bytes]:
    """One result of every kind that a command saves, with small values in all fields, and the summaries of
    the packaged models."""
    from mechfourier.results.kinds import class_of, modules

    kinds = [
        each for each in map(class_of, modules()) if each is not None and each.about.name not in MEASURED
    ]
    metrics = [path.read_bytes() for path in sorted(DATA.glob("*/metrics.json"))]
    return [*(json.dumps(example(kind)).encode() for kind in kinds), *_measured(), *metrics]


def _measured() -> list[bytes]:
    """Results whose values have to fit each other, which made-up ones do not."""
    found = json.loads(gzip.decompress(RESULTS.read_bytes())).values()
    made = [each for each in found if each["kind"] in MEASURED]
    short = [each | ({"shares": each["shares"][:30]} if "shares" in each else {}) for each in made]
    return [json.dumps(each).encode() for each in short]


def config_seeds() -> list[bytes]:
    return [config for config, _ in tiny_models().values()]


def weights_seeds() -> list[bytes]:
    """Small files with and without a checksum, and a larger one cut short."""
    from safetensors.torch import save
    from torch import arange

    small = save({"a": arange(6.0).reshape(2, 3), "b": arange(2)}, metadata={"format": "pt"})
    return [small, save({}), tiny_models()["one-layer"][1], tiny_models()["adder"][1][:3000]]


def harvest_index_seeds() -> list[bytes]:
    from mechfourier.harvest.index import Config, Index, Shard, shard_name

    about = Config(
        "m",
        "w",
        "t",
        {"path": "p"},
        {"pack": False},
        ("hook_embed", "blocks.0.hook_resid_post"),
        (8, 8),
        "float16",
        0,
        4,
    )
    shards = {n: Shard(n, shard_name(n), 4, 96, "c", "t") for n in range(2)}
    with tempfile.TemporaryDirectory() as folder:
        Index(about, 8, True, shards).write(Path(folder))
        return [path.read_bytes() for path in Path(folder).iterdir()]


@cache
def tiny_models() -> dict[str, tuple[bytes, bytes]]:
    """Name of an architecture -> ``config.json`` and ``model.safetensors`` of a model of it that is as small
    as can be."""
    from mechfourier.models.checkpoint import save_checkpoint
    from mechfourier.toys.adder import config as adder_config
    from mechfourier.toys.one_layer import weights as one_layer_weights
    from mechfourier.toys.universal import config as miras_config

    adder_shape = adder_config.AdderConfig(d_model=8, n_heads=2, d_mlp=8)
    faithful = miras_config.FaithfulConfig(d_model=8, n_heads=2, n_values=12)
    shapes = {
        "one-layer": (
            one_layer_weights,
            one_layer_weights.OneLayerConfig(p=7, d_model=8, n_heads=2, d_head=4, d_mlp=8),
        ),
        "adder": (adder_config, adder_shape),
        "faithful": (miras_config, faithful),
        "miras": (
            miras_config,
            miras_config.ExtrapolatingConfig(width=4, gates=4, n_layers=1, draws=2, n_values=12),
        ),
    }
    found = {}
    for name, (module, shape) in shapes.items():
        with tempfile.TemporaryDirectory() as folder:
            made = save_checkpoint(folder, module.initial_weights(shape, seed=0), shape.to_dict())
            found[name] = ((made / "config.json").read_bytes(), (made / "model.safetensors").read_bytes())
    return found


def example(kind: Any) -> Any:
    """Plain JSON of the type ``kind``: what a field of a result may hold, small."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return example(next(each for each in inside if each is not type(None)))
    if origin is tuple:
        return [example(each) for each in (inside[:1] * 2 if inside[-1] is Ellipsis else inside)]
    if origin is dict:
        return {"a": example(inside[1])}
    if origin is typing.Literal:
        return inside[0]
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        held = {f.name: example(hints[f.name]) for f in fields(kind) if f.init}
        if (about := getattr(kind, "about", None)) is None:
            return held
        del held["unknown"]  # no key of a file
        return {"kind": about.name, "schema": about.schema, **held}
    return {float: 0.5, int: 2, str: "x", bool: True}.get(kind, {})


# changes to one value


def altered(data: bytes, seed: int) -> bytes | None:
    """``data`` (JSON, TOML, a safetensors file) with one value replaced, left out or doubled; None where it
    is none of them."""
    rng = random.Random(seed)
    for form in (_in_json, _in_header, _in_toml):
        with contextlib.suppress(ValueError, RecursionError, TypeError, AttributeError):
            return form(data, rng)
    return None


def _in_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(_changed(json.loads(data), rng)).encode()


def _in_header(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = _in_json(data[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _in_toml(data: bytes, rng: random.Random) -> bytes:
    table = _changed(tomllib.loads(data.decode()), rng)
    plain = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for name, inner in table.items():
        if isinstance(inner, dict):
            plain += [
                f"[{name}]",
                *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in inner.items()),
            ]
    return "\n".join(plain).encode()


def _changed(value: Any, rng: random.Random) -> Any:
    """``value`` with one place in it changed; of nested places each is as likely as the next."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(HOSTILE)
    container, key = rng.choice(places)
    what = rng.randrange(8)
    if what == 0:
        del container[key]
    elif what == 1 and isinstance(container, list):
        container.append(container[key])
    elif what == 2:
        container[key] = copy.deepcopy(rng.choice(places)[0])  # another part of the same file
    elif what == 3 and isinstance(container, dict):
        container[str(rng.choice(HOSTILE))] = container.pop(key)
    elif what == 4 and isinstance(container[key], int | float):
        container[key] = rng.choice(
            [container[key] + 1, -container[key], str(container[key]), float(container[key])]
        )
    else:
        container[key] = rng.choice(HOSTILE)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
