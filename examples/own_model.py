"""Add a model of your own: anything built on TransformerLens hook points, with a way to turn prompts into
tokens.

The model below is planted: it embeds the numbers 0 to 11 on a circle, and everything else at random, so the
right verdict is known. Its `Architecture` says what mechfourier may ask of it: here how its folders are
loaded, and which domain it knows. A package of your own adds one with an entry point instead of ``register``
(examples/own_network), and the command line then knows it too. Run: python examples/own_model.py
"""

import math
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechfourier as mf
from mechfourier.models.architectures import Architecture, register
from mechfourier.models.checkpoint import load_checkpoint, save_checkpoint
from mechfourier.models.interface import Encoding

N = 12
WORD = re.compile(r"\w+|[^\w\s]")


class Clock(HookedRootModule):
    """An embedding and one block that mixes in the words before: enough to be probed."""

    def __init__(self, seed: int = 0, d_model: int = 32, d_vocab: int = 256, *, planted: bool = True) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        table = torch.randn(d_vocab, d_model, generator=draw) / math.sqrt(d_model)
        if planted:
            angle = 2 * math.pi * torch.arange(N) / N
            plane = torch.linalg.qr(torch.randn(d_model, 2, generator=draw)).Q.T
            table[:N] = torch.stack([angle.cos(), angle.sin()], 1) @ plane
        self.cfg = SimpleNamespace(d_model=d_model, d_vocab=d_vocab, n_ctx=32, n_layers=1, device="cpu")
        self.W_E = nn.Parameter(table)
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList([Block()])
        self.setup()

    def forward(self, tokens: Tensor) -> Tensor:
        residual = self.hook_embed(self.W_E[tokens])
        for block in self.blocks:
            residual = block(residual)
        return residual @ self.W_E.T

    def encode(self, prompts: list[str]) -> list[Encoding]:
        """Words as tokens: numbers below 12 keep their value, other words go to a fixed place of the
        table."""
        return [Encoding(*self._tokens(prompt)) for prompt in prompts]

    def _tokens(self, prompt: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        words = list(WORD.finditer(prompt))
        ids = tuple(int(w[0]) if w[0].isdecimal() and int(w[0]) < N else self._place(w[0]) for w in words)
        return ids, tuple(w.span() for w in words)

    def _place(self, word: str) -> int:
        # not hash(): that differs from run to run
        return N + sum(ord(c) * 31**i for i, c in enumerate(word)) % (self.cfg.d_vocab - N)

    def to_tokens(self, prompt: str) -> Tensor:
        return torch.tensor([self._tokens(prompt)[0]])

    def reinitialised(self, seed: int) -> "Clock":
        """What the first control compares with: the same model before anything was learned (here:
        planted)."""
        return Clock(seed + 1000, self.cfg.d_model, self.cfg.d_vocab, planted=False)


class Block(nn.Module):
    """Adds half the mean of the words so far: context, and with it some difference between the sentences."""

    def __init__(self) -> None:
        super().__init__()
        self.hook_resid_post = HookPoint()

    def forward(self, residual: Tensor) -> Tensor:
        count = torch.arange(1, residual.shape[1] + 1)[:, None]
        return self.hook_resid_post(residual + 0.5 * residual.cumsum(1) / count)


def load_folder(folder: str | Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Clock:
    """A folder whose config.json says ``"architecture": "clock"``."""
    weights, _ = load_checkpoint(folder)
    model = Clock()
    model.load_state_dict(weights)
    return model.to(device=device, dtype=dtype).eval()


RECORD = Architecture(
    name="clock", title="a planted circle of 12 numbers", load=f"{__name__}:load_folder", own_domain="mod-12"
)


def main() -> mf.ProbeResult:
    register(RECORD)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, dict(Clock().named_parameters()), {"architecture": "clock"}, None)
        model = mf.load(folder)
    print("hook points:", ", ".join(map(str, mf.sites(model))))
    result = mf.probe(model, "mod-12")
    print(result)
    return result


if __name__ == "__main__":
    main()
