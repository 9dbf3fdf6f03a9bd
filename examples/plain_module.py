"""A network in plain PyTorch, without hook points or a tokenizer: one call of ``wrap``, and everything works on it.

The network below answers "after 7 comes" with 8. It is built by hand, so the right verdict is known: the numbers 0
to 11 lie on a circle, and the answer is read off the same circle, one step on. Run: python examples/plain_module.py
"""

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import mechfourier as mf

N = 12
WORDS = [
    *map(str, range(N)),
    *[
        "after",
        "comes",
        "the",
        "number",
        "next",
        "is",
        "following",
        "one",
        "more",
        "than",
        "then",
        "what",
        "Take",
        "add",
        "say",
    ],
]

TASKS = """
title = "hours on a plain network"
n = 12
unit = "steps"
values = [{values}]
templates = ["the number {{value}}", "then {{value}}", "what is {{value}}", "say {{value}}", "Take {{value}}", "one more than {{value}}", "add {{value}}", "the next {{value}}", "more than {{value}}"]

[[task]]
name = "next"
kind = "successor"
templates = ["after {{value}} comes", "the number following {{value}} is", "the next number after {{value}} is"]
"""


class Successor(nn.Module):
    """Words, one block that adds up what came before, and an unembedding that is the embedding turned by a step."""

    def __init__(self, d_model: int = 32) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        table = torch.randn(len(WORDS), d_model, generator=draw) / math.sqrt(d_model)
        plane = torch.linalg.qr(torch.randn(d_model, 2, generator=draw)).Q.T
        angle = 2 * math.pi * torch.arange(N) / N
        table[:N] = 3 * torch.stack([angle.cos(), angle.sin()], 1) @ plane
        table[N:] -= table[N:] @ plane.T @ plane  # other words say nothing about the number
        self.embedding = nn.Embedding.from_pretrained(table)
        self.layers = nn.ModuleList([Sum()])
        angle = angle - 2 * math.pi / N
        self.out = nn.Linear(d_model, len(WORDS), bias=False)
        self.out.weight.data = torch.zeros(len(WORDS), d_model)
        self.out.weight.data[:N] = torch.stack([angle.cos(), angle.sin()], 1) @ plane

    def forward(self, tokens: Tensor) -> Tensor:
        residual = self.embedding(tokens)
        for layer in self.layers:
            residual = layer(residual)
        return self.out(residual)


class Sum(nn.Module):
    """Every position gets what the positions before it hold, at one length."""

    def forward(self, residual: Tensor) -> Tensor:
        found = residual.cumsum(1).tanh()
        return 3 * found / found.norm(dim=-1, keepdim=True)


def main() -> mf.StudyResult:
    model = mf.wrap(Successor(), tokens={word: number for number, word in enumerate(WORDS)})
    print("hook points:", ", ".join(map(str, mf.sites(model))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.toml"
        path.write_text(TASKS.format(values=", ".join(f'"{i}"' for i in range(N))), encoding="utf-8")
        result = mf.study(model, str(path))
    print(result)
    return result


if __name__ == "__main__":
    main()
