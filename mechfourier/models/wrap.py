"""Any PyTorch network with hook points: its blocks are found, and what they read and write can be captured and
edited as in TransformerLens."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from mechfourier._arguments import checked
from mechfourier.errors import NotExpressible, UsageError, nearest
from mechfourier.models.interface import Encoding, encode_with

WORD = re.compile(r"\w+|[^\w\s]")
PARTS = {
    "attn_out": re.compile(r"(self_?)?(attn|attention|mha)$|self_?attention$", re.IGNORECASE),
    "mlp_out": re.compile(r"(mlp|ff|ffn|feed_?forward)$", re.IGNORECASE),
}
Tokens = Callable[[str], Sequence[int]] | Mapping[str, int] | Any


class Wrapped(HookedRootModule):
    """``module`` with hook points: ``hook_embed``, and per block ``hook_resid_pre``, ``hook_resid_post`` and,
    where submodules are called so, ``hook_attn_out`` and ``hook_mlp_out``."""

    def __init__(self, module: nn.Module, blocks: Sequence[nn.Module], embed: nn.Module, read: Any) -> None:
        super().__init__()
        self.module = module
        self.read = _reader(read)
        self.tokenizer = getattr(self.read, "tokenizer", None)
        self.mechfourier_name = type(module).__name__
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList(_Points(block) for block in blocks)
        weights = embed.weight if isinstance(embed, nn.Embedding) else next(module.parameters())
        self.cfg = SimpleNamespace(
            d_model=int(weights.shape[-1]),
            d_vocab=int(weights.shape[0]),
            n_layers=len(blocks),
            n_ctx=_context(module),
            device=str(weights.device),
            model_name=self.mechfourier_name,
        )
        embed.register_forward_hook(_after(self.hook_embed))
        for block, points in zip(blocks, self.blocks, strict=True):
            _attach(block, points)
        self.setup()
        self.eval()

    def forward(self, tokens: Tensor) -> Any:
        """The module's own output for ``tokens`` [row, pos]."""
        return self.module(tokens)

    def encode(self, prompts: list[str]) -> list[Encoding]:
        """Prompts as tokens with the characters that each stands for."""
        return self.read.encode_prompts(prompts)

    def to_tokens(self, prompt: str) -> Tensor:
        """One prompt as tokens [1, pos]."""
        return torch.tensor([self.encode([prompt])[0].ids])


@checked
def wrap(module: nn.Module, *, tokens: Tokens, blocks: str | None = None, embed: str | None = None) -> Any:
    """Any PyTorch network as a model for ``probe``, ``ablate``, ``rotate``, ``study`` and the rest.

    Args: module: takes token numbers [row, pos] and gives logits [row, pos, vocab] (or [row, vocab] of the
    last position; an object with ``.logits``, or a tuple that begins with them). tokens: how text becomes
    token numbers: a fast Hugging Face tokenizer, ``{word: number}``, or a function from one word to a
    number. blocks: the name of the list of blocks, like ``"transformer.layers"`` (None: the longest list of
    equal modules). embed: the name of the module whose output enters the first block (None: the first
    ``nn.Embedding``).

    The module is changed in place by hooks of PyTorch's that pass everything on; its numbers stay. One that has hook
    points (a ``HookedTransformer`` without a tokenizer) only learns to read text by ``tokens``, and is returned itself.
    Raises ``UsageError`` where there are no blocks, or a name is unknown.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"module is of type {type(module).__name__}; give a torch.nn.Module")
    if hasattr(module, "hook_dict"):
        if blocks is not None or embed is not None:
            raise UsageError(f"{type(module).__name__} has hook points already; leave out blocks and embed")
        object.__setattr__(module, "encode", _reader(tokens).encode_prompts)
        return module
    return Wrapped(module, _blocks(module, blocks), _embedding(module, embed), tokens)


def _blocks(module: nn.Module, name: str | None) -> list[nn.Module]:
    lists = {
        key: list(each)
        for key, each in module.named_modules()
        if isinstance(each, (nn.ModuleList, nn.Sequential)) and len(each) and _alike(each)
    }
    if name is not None:
        found = _named(module, name, list(lists))
        return list(found) if isinstance(found, (nn.ModuleList, nn.Sequential)) else [found]
    if not lists:
        raise UsageError(
            f"{type(module).__name__} holds no list of equal blocks; name the module that is one with "
            f"blocks='…' (of: {', '.join(key for key, _ in module.named_children())})"
        )
    return max(lists.values(), key=len)


def _alike(modules: Iterable[nn.Module]) -> bool:
    return len({type(each) for each in modules}) == 1


def _embedding(module: nn.Module, name: str | None) -> nn.Module:
    tables = {key: each for key, each in module.named_modules() if isinstance(each, nn.Embedding)}
    if name is not None:
        return _named(module, name, list(tables))
    if not tables:
        raise UsageError(
            f"{type(module).__name__} has no nn.Embedding; name the module whose output enters the first block "
            f"with embed='…'"
        )
    return next(iter(tables.values()))


def _named(module: nn.Module, name: str, likely: list[str]) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        known = likely or [key for key, _ in module.named_modules() if key]
        raise UsageError(
            f"{type(module).__name__} has no submodule {name!r}; closest: {nearest(name, known)}"
        ) from None


class _Points(nn.Module):
    """The hook points of one block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.hook_resid_pre, self.hook_resid_post = HookPoint(), HookPoint()
        for kind, pattern in PARTS.items():
            if any(pattern.fullmatch(name) for name, _ in block.named_children()):
                self.add_module(f"hook_{kind}", HookPoint())


def _attach(block: nn.Module, points: nn.Module) -> None:
    block.register_forward_pre_hook(_before(points.get_submodule("hook_resid_pre")), with_kwargs=True)
    block.register_forward_hook(_after(points.get_submodule("hook_resid_post")))
    for kind, pattern in PARTS.items():
        part = next((each for name, each in block.named_children() if pattern.fullmatch(name)), None)
        if part is not None:
            part.register_forward_hook(_after(points.get_submodule(f"hook_{kind}")))


def _before(point: nn.Module) -> Callable[..., Any]:
    """A hook that lets ``point`` see, and change, the first argument of a block."""

    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del module
        if args:
            return (point(args[0]), *args[1:]), kwargs
        name = next(key for key, value in kwargs.items() if isinstance(value, Tensor))
        return args, {**kwargs, name: point(kwargs[name])}

    return see


def _after(point: nn.Module) -> Callable[..., Any]:
    """A hook that lets ``point`` see, and change, what a module returned."""

    def see(module: nn.Module, args: Any, output: Any) -> Any:
        del module, args
        if isinstance(output, (tuple, list)):
            return type(output)([point(output[0]), *output[1:]])
        return point(output)

    return see


def _context(module: nn.Module) -> int:
    """The longest sequence, where the module's configuration says it."""
    config = getattr(module, "config", None) or getattr(module, "cfg", None)
    for name in ("n_ctx", "max_position_embeddings", "n_positions", "block_size", "context_length"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    return 1024


class _Words:
    """Words and signs as tokens, by a function of one word."""

    def __init__(self, number: Callable[[str], int | None]) -> None:
        self.number = number

    def encode_prompts(self, prompts: list[str]) -> list[Encoding]:
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> Encoding:
        words = list(WORD.finditer(prompt))
        ids = [self.number(word[0]) for word in words]
        for word, number in zip(words, ids, strict=True):
            if number is None:
                raise NotExpressible(f"the model has no token for {word[0]!r} (in {prompt!r})")
        return Encoding(tuple(int(i or 0) for i in ids), tuple(word.span() for word in words))


class _Tokenizer:
    """A fast Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode_prompts(self, prompts: list[str]) -> list[Encoding]:
        return encode_with(self.tokenizer, prompts)


def _reader(tokens: Tokens) -> Any:
    if isinstance(tokens, Mapping):
        return _Words(tokens.get)
    if getattr(tokens, "is_fast", False):
        return _Tokenizer(tokens)
    if hasattr(tokens, "is_fast"):
        raise UsageError(
            "the tokenizer is a slow one, which does not say which characters a token stands for"
        )
    if callable(tokens):
        number: Any = tokens
        return _Words(number)
    raise UsageError(
        f"tokens is of type {type(tokens).__name__}; give a fast tokenizer, a mapping from words to numbers, or "
        f"a function from a word to its number"
    )
