"""What is known of a checkpoint besides its tensors: the configuration beside it, and the values inside it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechfourier.files import read_text
from mechfourier.toys.modular.config import ACTIVATIONS
from mechfourier.toys.reading.questions import Known
from mechfourier.toys.reading.settings import Hints

LARGEST_CONFIG = 2**20
KEYS = {
    "p": ("p", "c", "prime", "modulus", "mod", "n_vocab", "n_tokens"),
    "heads": ("n_heads", "num_heads", "nhead", "n_head", "heads", "num_attention_heads"),
    "act": ("act_fn", "act_type", "act", "activation", "activation_function", "hidden_act"),
    "attn_coeff": ("attn_coeff",),
    "two_vocabularies": ("diff_vocab",),
    "equals": ("eqn_sign",),
    "norm_first": ("norm_first",),
    "task": ("fn_name", "fn", "operation", "op", "task", "func", "funcs", "function", "binary_op"),
    "accuracy": ("test_accuracy", "test_acc", "val_acc", "val_accuracy", "accuracy", "train_accuracy"),
}
OPERATIONS = {
    "add": ("add", "addition", "plus", "+", "x+y", "a+b", "sum"),
    "subtract": ("subtract", "subtraction", "sub", "minus", "-", "x-y", "a-b"),
    "multiply": ("multiply", "multiplication", "mul", "times", "*", "x*y", "a*b"),
    "squares": ("squares", "x^2+y^2", "x2y2", "x**2+y**2", "a^2+b^2"),
    "s5": ("s5", "s_5"),
}


def configurations(path: Path) -> dict[str, Any]:
    """The values of every configuration that lies beside a checkpoint, by key in lower case; a nested one's
    by its last key. A file that cannot be read is left out."""
    found: dict[str, Any] = {}
    for beside in _beside(path):
        try:
            if beside.stat().st_size <= LARGEST_CONFIG:
                found = dict(_flat(_parsed(beside))) | found
        except (OSError, ValueError, RecursionError):
            continue
    return found


def _parsed(path: Path) -> Any:
    """JSON, or YAML where its reader is installed (transformers brings it)."""
    text = read_text(path)
    if path.suffix == ".json":
        return json.loads(text)
    try:
        import yaml
    except ImportError:
        return {}
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return {}


def _beside(path: Path) -> Iterator[Path]:
    """``config_RUN.json`` of ``model_RUN.pt``, ``RUN.json``, and the usual names."""
    names = [
        f"{path.stem.replace('model', 'config', 1)}.json",
        f"{path.stem}_config.json",
        f"{path.stem}.json",
    ]
    names += [
        f"{stem}.{kind}"
        for stem in ("config", "hparams", "args", "params")
        for kind in ("json", "yaml", "yml")
    ]
    for name in dict.fromkeys(names):
        if name != path.name and (path.parent / name).is_file():
            yield path.parent / name


def _flat(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            if isinstance(child, Mapping) and "value" in child:  # as Weights & Biases writes them
                yield str(key).lower(), child["value"]
            elif isinstance(child, Mapping):
                yield from _flat(child)
            else:
                yield str(key).lower(), child


def hints_of(values: Mapping[str, Any]) -> Hints:
    """What the values of a configuration say about the network; what is of another type says nothing."""
    equals, two = _flag(values, "equals"), _flag(values, "two_vocabularies")
    norm_first = _flag(values, "norm_first")
    act = _first(values, "act")
    return Hints(
        questions=Known(_whole(values, "p"), two, {True: 3, False: 2, None: None}[equals]),
        heads=_whole(values, "heads"),
        act=_activation(act) if isinstance(act, str) else None,
        attn_coeff=_number(values, "attn_coeff"),
        norm={True: "pre", False: "post", None: None}[norm_first],
    )


def task_of(values: Mapping[str, Any]) -> str | None:
    """The task that a configuration names; None where it names none that is known."""
    told = _first(values, "task")
    if not isinstance(told, str):
        return None
    plain = re.sub(r"\s|lambda.*?:|x\[|\]|[()]|%\w+$|mod\w*$", "", told.lower())
    plain = plain.replace("0+1", "x+y").replace("0-1", "x-y").replace("0*1", "x*y")
    return next((name for name, spellings in OPERATIONS.items() if plain in spellings), None)


def accuracy_of(values: Mapping[str, Any]) -> float | None:
    """The accuracy that its authors wrote down, as a share."""
    value = _number(values, "accuracy")
    return None if value is None else value / 100 if value > 1 else value


def _activation(text: str) -> str | None:
    name = text.lower().removeprefix("nn.").rstrip("()")
    name = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "quad": "square", "x**2": "square"}.get(
        name, name
    )
    return name if name in ACTIVATIONS else None


def _first(values: Mapping[str, Any], what: str) -> Any:
    return next((values[key] for key in KEYS[what] if values.get(key) is not None), None)


def _number(values: Mapping[str, Any], what: str) -> float | None:
    value = _first(values, what)
    return float(value) if isinstance(value, int | float) else None


def _whole(values: Mapping[str, Any], what: str) -> int | None:
    value = _first(values, what)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _flag(values: Mapping[str, Any], what: str) -> bool | None:
    value = _first(values, what)
    return bool(value) if isinstance(value, bool | int | float) else None
