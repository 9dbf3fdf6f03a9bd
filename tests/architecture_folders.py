"""Random Hugging Face folders of the architectures in ``architectures.py``, variants of them, and
transformers' own numbers."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from architectures import ARCHITECTURES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TOKENS = torch.randint(3, 500, (1, 60), generator=torch.Generator().manual_seed(5))
LIMIT = 1e-4


class Folders:
    """Folders by the name of the architecture, each written once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name: str) -> Path:
        if not (self.root / name / "tokenizer.json").exists():
            write_architecture(self.root / name, name)
        return self.root / name


def write_architecture(folder: Path, name: str, *, seed: int = 0, **changes: Any) -> Path:
    """A random folder: matrices of standard deviation .15, one-dimensional parameters shifted from their
    start."""
    cls, config_class, config = ARCHITECTURES[name]
    torch.manual_seed(seed)
    model = getattr(transformers, cls)(getattr(transformers, config_class)(**{**config, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(0.15 * noise)
            else:
                parameter.add_(0.2 * noise)
    model.tie_weights()
    model.save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


def write_byte_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def variant(
    source: Path, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = dict, **config: Any
) -> Path:
    """A copy of a folder with other tensors and other settings (a setting of None is taken out)."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    tensors = {k: v.contiguous() for k, v in change(load_file(folder / "model.safetensors")).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {**json.loads((folder / "config.json").read_text()), **config}
    kept = {key: value for key, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def hugging_face(folder: Path, tokens: torch.Tensor) -> tuple[Any, list[torch.Tensor]]:
    """What transformers alone gives, and the output of every block of the stack that runs."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, name).from_pretrained(folder, attn_implementation="eager").eval()
    text = getattr(model.config, "text_config", model.config)
    stacks = [
        m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == text.num_hidden_layers
    ]
    blocks: dict[str, torch.Tensor] = {}

    def keep(key: str, module: Any, args: Any, output: Any) -> None:
        del module, args
        blocks[key] = output[0] if isinstance(output, tuple) else output

    for s, stack in enumerate(stacks):
        for layer, block in enumerate(stack):
            block.register_forward_hook(functools.partial(keep, f"{s}.{layer}"))
    with torch.no_grad():
        output = model(tokens)
    # norms per head may be a list of the same length inside a block; the blocks are the outermost list that
    # runs
    layers = range(text.num_hidden_layers)
    ran = [s for s in range(len(stacks)) if all(f"{s}.{layer}" in blocks for layer in layers)]
    return output, [blocks[f"{ran[0]}.{layer}"] for layer in layers] if ran else []


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def check_equal(model: Any, folder: Path) -> None:
    """Logits, and the residual stream after every block."""
    expected, blocks = hugging_face(folder, TOKENS)
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int, value: Any, hook: Any) -> None:
        del hook
        found[layer] = value[0] if isinstance(value, tuple) else value

    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    hooks = [(site, functools.partial(keep, layer)) for layer, site in enumerate(sites)]
    with torch.no_grad():
        logits = model.run_with_hooks(TOKENS, fwd_hooks=hooks)
    assert relative(logits, expected.logits) < LIMIT
    assert model.mechfourier_check.residual_error < LIMIT
    assert len(blocks) == len(found) == model.cfg.n_layers
    for layer, block in enumerate(blocks):
        assert relative(found[layer], block) < LIMIT, layer
