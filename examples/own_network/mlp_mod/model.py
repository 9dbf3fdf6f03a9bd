"""The network: the embeddings of both numbers are added up, one hidden layer, and the answer read at the last
position."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from mechfourier.errors import NotExpressible
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.models.interface import Encoding

QUESTION = re.compile(r"\s*(?:Compute )?(\d+) \+ (\d+) mod (\d+) (=)( \d+)?")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; ``n_layers`` and the like are what mechfourier asks of any model."""

    p: int = 23
    d_model: int = 32
    d_mlp: int = 128
    n_layers: int = 1
    n_ctx: int = 3
    device: str = "cpu"

    @property
    def d_vocab(self) -> int:
        return self.p + 1

    @property
    def d_vocab_out(self) -> int:
        return self.p


class Block(nn.Module):
    """A hidden layer, added to the residual stream."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.W_in = nn.Parameter(torch.randn(cfg.d_model, cfg.d_mlp) / cfg.d_model**0.5)
        self.W_out = nn.Parameter(torch.randn(cfg.d_mlp, cfg.d_model) / cfg.d_mlp**0.5)
        self.hook_resid_pre, self.hook_mlp_out, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()

    def forward(self, residual: Tensor) -> Tensor:
        residual = self.hook_resid_pre(residual)
        return self.hook_resid_post(residual + self.hook_mlp_out((residual @ self.W_in).relu() @ self.W_out))


class Perceptron(HookedRootModule):
    """``5 + 9 mod 23 =`` as the tokens 5, 9, =; every position sees the sum of the embeddings so far."""

    mechfourier_architecture = "mlp-mod"

    def __init__(self, cfg: Config, seed: int = 0) -> None:
        super().__init__()
        self.cfg, self.mechfourier_name = cfg, "mlp-mod"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.W_E = nn.Parameter(torch.randn(cfg.d_vocab, cfg.d_model) * 0.1)
            self.W_U = nn.Parameter(torch.randn(cfg.d_model, cfg.d_vocab_out) / cfg.d_model**0.5)
            self.blocks = nn.ModuleList([Block(cfg)])
        self.hook_embed = HookPoint()
        self.setup()

    def forward(self, tokens: Tensor, return_type: str | None = "logits", **_: Any) -> Tensor | None:
        residual = self.hook_embed(self.W_E[tokens]).cumsum(1)
        for block in self.blocks:
            residual = block(residual)
        return None if return_type is None else residual @ self.W_U

    def encode(self, prompts: list[str]) -> list[Encoding]:
        return [self._encoding(prompt) for prompt in prompts]

    def _encoding(self, prompt: str) -> Encoding:
        found = QUESTION.fullmatch(prompt)
        if found is None or int(found[3]) != self.cfg.p or max(int(found[1]), int(found[2])) >= self.cfg.p:
            raise NotExpressible(
                f"this network reads questions like '5 + 9 mod {self.cfg.p} =', not {prompt!r}"
            )
        groups = [1, 2, 4, *[5] * (found[5] is not None)]
        ids = [self.cfg.p if group == 4 else int(found[group]) for group in groups]
        return Encoding(tuple(ids), tuple(found.span(group) for group in groups))

    def to_tokens(self, prompts: str | list[str], **_: Any) -> Tensor:
        texts = [prompts] if isinstance(prompts, str) else prompts
        return torch.tensor([encoding.ids for encoding in self.encode(texts)])

    def answer_ids(self, answers: list[str]) -> tuple[int, ...]:
        return tuple(int(answer) for answer in answers)

    def reinitialised(self, seed: int) -> "Perceptron":
        """The same network before training: the control of a probe."""
        return Perceptron(self.cfg, seed)


def load_folder(folder: str | Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Perceptron:
    """The network of a run: what ``mechfourier`` calls for a config.json with ``"architecture":
    "mlp-mod"``."""
    weights, config = load_checkpoint(folder)
    model = Perceptron(Config(p=config["p"], d_model=config["d_model"], d_mlp=config["d_mlp"]))
    model.load_state_dict(weights)
    return model.to(device=device, dtype=dtype).eval()
