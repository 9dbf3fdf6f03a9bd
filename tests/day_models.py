"""Small models that are asked about days: one that uses a circle it is known to use, and one with random weights."""

import warnings
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mechfourier.domains.definition import domain

NOISE = 60
USED, UNREAD = (0, 1), (2, 3)
RESID = "blocks.0.hook_resid_post"


def calendar_tokenizer() -> Any:
    from mechfourier.toys.calendar.tokens import build_tokenizer

    return build_tokenizer()


def planted_circle() -> Any:
    """Answers day questions by a circle in dimensions 0 and 1; carries the same circle, unread, in 2 and
    3."""
    from transformer_lens import HookedRootModule
    from transformer_lens.hook_points import HookPoint

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hook_resid_post = HookPoint()

    class Unembed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hook_in = HookPoint()

    class PlantedCircle(HookedRootModule):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer, self.mechfourier_name = calendar_tokenizer(), "planted"
            vocab, names = len(self.tokenizer), domain("days").values
            generator = torch.Generator().manual_seed(0)
            days = self.tokenizer.convert_tokens_to_ids(list(names))
            steps = torch.zeros(vocab)
            steps[days] = torch.arange(7.0)
            numbers = [str(i) for i in range(120)]
            steps[self.tokenizer.convert_tokens_to_ids(numbers)] = torch.arange(120.0) % 7
            self.steps = nn.Parameter(steps, requires_grad=False)
            self.noise = nn.Parameter(torch.randn(vocab, NOISE, generator=generator), requires_grad=False)
            W_U = torch.zeros(4 + NOISE, vocab)
            angle = 2 * torch.pi * torch.arange(7) / 7
            W_U[:2, days] = 8 * torch.stack([angle.cos(), angle.sin()])
            W_U[4:] = 0.1 * torch.randn(NOISE, vocab, generator=generator)
            self.W_U = nn.Parameter(W_U, requires_grad=False)
            self.cfg = SimpleNamespace(d_vocab=vocab, d_model=4 + NOISE, n_layers=1, model_name="planted")
            self.blocks, self.unembed = nn.ModuleList([Block()]), Unembed()
            self.setup()

        def forward(self, tokens: Tensor) -> Tensor:
            angle = 2 * torch.pi * self.steps[tokens].cumsum(dim=1) / 7
            circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
            resid = torch.cat([circle, circle, self.noise[tokens]], dim=-1)
            resid = self.blocks[0].hook_resid_post(resid)  # type: ignore[operator]
            return self.unembed.hook_in(resid) @ self.W_U

    return PlantedCircle()


def small_calendar(*, n_layers: int = 3, d_head: int = 12, d_mlp: int = 32) -> Any:
    """A random HookedTransformer of two heads with the words of the calendar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        tokenizer = calendar_tokenizer()
        config = HookedTransformerConfig(
            n_layers=n_layers,
            d_model=2 * d_head,
            n_heads=2,
            d_head=d_head,
            d_mlp=d_mlp,
            d_vocab=len(tokenizer),
            n_ctx=32,
            act_fn="relu",
            normalization_type="RMS",
            positional_embedding_type="rotary",
            rotary_dim=d_head,
            seed=1,
        )
        model = HookedTransformer(config, move_to_device=False)
    model.tokenizer = tokenizer
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model.eval().requires_grad_(False)
