"""Shapes and initial weights of the models that add in every modulus, without TransformerLens (whose import
takes seconds)."""

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError, nearest
from mechfourier.models.sizes import check_sizes
from mechfourier.toys.config import NetworkConfig

N_CTX = 4
"""Positions: m, a, b, =."""
FORMS = ("shared", "plain")
MEMORIES = ("none", "feedforward", "titans")
ENCODINGS = ("sinpe", "log")


class _UniversalConfig(NetworkConfig):
    """What both models share: four positions, and answers 0 to ``n_values`` − 1."""

    record = "miras"
    architecture: ClassVar[str]
    n_ctx: ClassVar[int] = N_CTX
    n_values: int

    @property
    def d_vocab_out(self) -> int:
        return self.n_values

    def to_dict(self) -> dict[str, Any]:
        return {"architecture": self.record, "kind": self.architecture, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtrapolatingConfig(_UniversalConfig):
    """Every number encoded by value at drawn frequencies; the answer c scored by ⟨h, φ(c)⟩.

    The network of width ``width`` reads ``freqs`` frequencies at a time and is applied to ``draws`` such
    draws, whose logits add up; *shared*: one frequency at a time, *plain*: 24. For the outside it is one
    transformer of width ``d_model = draws · width`` whose matrices are block-diagonal with ``draws`` equal
    blocks, so every hook point has its usual shape with the draw as the outer part of the last (or the head)
    axis. Training draws anew every step; ``freq_seed`` fixes the draws afterwards. Numbers run from 0 to
    ``n_values`` − 1 (token ``n_values`` is ``=``). The magnitude of a number v enters as s·v with s =
    clip(``scale`` / m, ``scale_min``, ``scale_max``). With ``by_position`` the queries and keys of the first
    block read the position embedding alone: its pattern is the same for all numbers, so the block adds sizes
    up linearly, however large they are.
    """

    architecture = "extrapolating"

    form: str = "shared"
    width: int = 32
    heads: int = 2
    gates: int = 64
    n_layers: int = 2
    freqs: int = 1
    draws: int = 64
    freq_seed: int = 0
    n_values: int = 2000
    scale: float = 30.0
    scale_min: float = 0.05
    scale_max: float = 0.5
    by_position: bool = False
    model_name: str = "miras"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"no form {self.form!r}; closest: {nearest(self.form, FORMS)}")
        check_sizes(self, "width", "heads", "gates", "n_layers", "freqs", "draws", "n_values")
        if self.width % self.heads or self.gates % 2:
            raise OutOfRange(
                f"width {self.width} is shared by {self.heads} heads and {self.gates} gates by two kinds; "
                f"both must divide"
            )

    @property
    def d_model(self) -> int:
        return self.draws * self.width

    @property
    def n_heads(self) -> int:
        return self.draws * self.heads

    @property
    def d_head(self) -> int:
        return self.width // self.heads

    @property
    def d_mlp(self) -> int:
        return self.draws * self.gates

    @property
    def d_vocab(self) -> int:
        return self.n_values + 1

    @property
    def equals(self) -> int:
        """The token of ``=``."""
        return self.n_values

    @property
    def largest_modulus(self) -> int:
        """Its own value must be a number of the model."""
        return self.n_values - 1

    def too_large(self, m: int) -> str:
        """The sentence for a modulus above the range."""
        return (
            f"m = {m} is above the numbers of {self.model_name}, which end at {self.n_values - 1}; "
            f"nothing is trained per number, so take more: model.with_values({m + 1})"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaithfulConfig(_UniversalConfig):
    """SinPE at position 0, categorical a and b, pre-norm, class logits (the MIRAS experiment of
    grokking-fourier).

    ``memory`` stands between the encoding and position 0: ``none``, ``feedforward`` or ``titans``.
    ``encoding``: ``sinpe`` (sinusoids of m / ``sinusoid_scale`` plus a learned linear part of m /
    ``modulus_scale``) or ``log`` (half of the sinusoids at log-spaced frequencies of log m, the linear part
    of m and log m). At a ``sinusoid_scale`` of 1 (as published) neighbouring moduli have unlike codes; at 30
    the code is smooth in m. Tokens 0 to ``n_values`` − 1 are numbers, ``n_values`` + 1 is ``=`` (``n_values``
    is free, as in the original); m itself is a number too, so it runs to ``n_values`` − 1.
    """

    architecture = "faithful"
    normalization_type = "LN"

    n_values: int = 200
    d_model: int = 128
    n_heads: int = 4
    d_mlp: int = 512
    d_mem: int = 128
    n_layers: int = 2
    memory: str = "feedforward"
    encoding: str = "sinpe"
    modulus_scale: float = 30.0
    sinusoid_scale: float = 1.0
    trained_to: int = 120
    model_name: str = "miras-faithful"

    def __post_init__(self) -> None:
        for value, known in ((self.memory, MEMORIES), (self.encoding, ENCODINGS)):
            if value not in known:
                raise UsageError(
                    f"no such option {value!r}; closest: {nearest(value, known)}; known: {', '.join(known)}"
                )
        for name in ("modulus_scale", "sinusoid_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise OutOfRange(f"{name} = {getattr(self, name)}; it must be above 0")
        check_sizes(self, "n_values", "d_model", "n_heads", "d_mlp", "d_mem", "n_layers")
        if self.d_model % self.n_heads or self.d_model % 4:
            raise OutOfRange(f"d_model {self.d_model} must divide by 4 and by the {self.n_heads} heads")

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def d_vocab(self) -> int:
        return self.n_values + 2

    @property
    def equals(self) -> int:
        """The token of ``=``; the one before it is unused, as in the original."""
        return self.n_values + 1

    @property
    def largest_modulus(self) -> int:
        """Its residues must be tokens; m itself is none."""
        return self.n_values

    def too_large(self, m: int) -> str:
        """The sentence for a modulus above the range."""
        return (
            f"m = {m} is above the range of {self.model_name}: its token table ends at {self.n_values - 1}, "
            f"so its moduli "
            f"end at {self.n_values}; the model 'miras' reads larger ones"
        )


MirasConfig = ExtrapolatingConfig | FaithfulConfig
KINDS = {"extrapolating": ExtrapolatingConfig, "faithful": FaithfulConfig}


def config_from(values: dict[str, Any]) -> MirasConfig:
    """The configuration in a checkpoint's JSON; unknown keys (the recipe, the provenance) are left out,
    values of another type a ``TypeError``."""
    name = values.get("kind", "extrapolating")
    if not isinstance(name, str) or name not in KINDS:
        raise UsageError(f"no kind of miras model {name!r}; known: {', '.join(KINDS)}")
    return KINDS[name].from_dict(values)


def parameter_shapes(config: MirasConfig) -> dict[str, tuple[int, ...]]:
    """TransformerLens parameter name -> shape (of one draw), in a fixed order."""
    return _extrapolating(config) if isinstance(config, ExtrapolatingConfig) else _faithful(config)


def _attention(layer: int, d: int, heads: int) -> dict[str, tuple[int, ...]]:
    attn, e = f"blocks.{layer}.attn.", d // heads
    return {**{f"{attn}W_{name}": (heads, d, e) for name in "QKV"}, f"{attn}W_O": (heads, e, d)}


def _mlp(layer: int, d: int, m: int, *, gated: bool) -> dict[str, tuple[int, ...]]:
    mlp = f"blocks.{layer}.mlp."
    gate: dict[str, tuple[int, ...]] = {f"{mlp}W_gate": (d, m), f"{mlp}b_gate": (m,)} if gated else {}
    return gate | {f"{mlp}W_in": (d, m), f"{mlp}b_in": (m,), f"{mlp}W_out": (m, d), f"{mlp}b_out": (d,)}


def _extrapolating(config: ExtrapolatingConfig) -> dict[str, tuple[int, ...]]:
    d = config.width
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (2 * config.freqs + 1, d),
        "pos_embed.W_pos": (N_CTX, d),
    }
    for layer in range(config.n_layers):
        shapes |= _attention(layer, d, config.heads) | _mlp(layer, d, config.gates, gated=True)
    return shapes | {"unembed.W_U": (d, 2 * config.freqs)}


def _faithful(config: FaithfulConfig) -> dict[str, tuple[int, ...]]:
    d = config.d_model
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (config.d_vocab, d),
        "pos_embed.W_pos": (N_CTX, d),
        "modulus.W": (1 if config.encoding == "sinpe" else 2, d),
        "modulus.b": (d,),
        **memory_shapes(config),
    }
    for layer in range(config.n_layers):
        norms = {f"blocks.{layer}.{ln}.{x}": (d,) for ln in ("ln1", "ln2") for x in "wb"}
        shapes |= norms | _attention(layer, d, config.n_heads) | _mlp(layer, d, config.d_mlp, gated=False)
    return shapes | {"unembed.W_U": (d, config.n_values), "unembed.b_U": (config.n_values,)}


def memory_shapes(config: FaithfulConfig) -> dict[str, tuple[int, ...]]:
    """The parameters of the memory block."""
    d, m = config.d_model, config.d_mem
    out: dict[str, tuple[int, ...]] = {"memory.W_out": (m, d), "memory.b_out": (d,)}
    if config.memory == "none":
        return {}
    if config.memory == "feedforward":
        return {
            "memory.W_mem": (d, m),
            "memory.b_mem": (m,),
            "memory.W_surprise": (m, d),
            "memory.b_surprise": (d,),
        } | out
    maps = {f"memory.W_{name}": (d, m) for name in ("query", "key", "value")}
    return {**maps, "memory.W_start": (m, m), "memory.W_gates": (d, 3), "memory.b_gates": (3,)} | out


def initial_weights(
    config: MirasConfig, *, seed: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Normal weights of standard deviation 1/√(inputs), embeddings .5 (by value) or .02 (faithful), biases 0,
    norms 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        if ".ln" in name and name.endswith(".w"):
            weights[name] = torch.ones(shape, dtype=dtype)
            continue
        if len(shape) == 1:
            weights[name] = torch.zeros(shape, dtype=dtype)
            continue
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        weights[name] = (drawn * _deviation(config, name, shape)).to(dtype)
    return weights


def _deviation(config: MirasConfig, name: str, shape: tuple[int, ...]) -> float:
    if isinstance(config, ExtrapolatingConfig):
        if name == "embed.W_E":
            return 0.5 if config.freqs == 1 else 1 / math.sqrt(shape[0])
        if name == "pos_embed.W_pos":
            return 0.5
    elif name in ("embed.W_E", "pos_embed.W_pos"):
        return 0.5
    if name.endswith("attn.W_O"):
        return 1 / math.sqrt(shape[0] * shape[1])
    return 1 / math.sqrt(shape[-2])
