"""The cyclic group behind a task: tables relabelled so that the answer of (i, j) is i + j on Z_n.

a − b is addition with b turned round. a · b mod a prime p is addition of discrete logarithms on Z_{p−1}, for
the operands and answers other than 0. The whole analysis then speaks of one operation only.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.fourier.neurons import NeuronSpectrum, neuron_spectrum
from mechfourier.toys.one_layer.forward import (
    ATTN,
    MLP,
    LastPosition,
    Weights,
    bias,
    direct_logits,
    last_position,
    neurons,
    output_map,
)
from mechfourier.toys.one_layer.weights import OneLayerConfig


@dataclass(frozen=True)
class Labels:
    """Token of the i-th first operand, second operand and answer in cyclic order (length n each)."""

    a: Int[Tensor, " n"]
    b: Int[Tensor, " n"]
    c: Int[Tensor, " n"]

    def grid(self, table: Tensor) -> Tensor:
        """``table[a, b, …]`` in cyclic order."""
        whole = torch.arange(table.shape[0])
        if len(self.a) == len(whole) and bool((self.a == whole).all() and (self.b == whole).all()):
            return table
        return table[self.a][:, self.b]

    def answers(self, table: Tensor) -> Tensor:
        """``table[…, c]`` in cyclic order."""
        whole = torch.arange(table.shape[-1])
        same = len(self.c) == len(whole) and bool((self.c == whole).all())
        return table if same else table[..., self.c]


def labels(task: str, p: int) -> Labels:
    """Raises ``UsageError`` for a task that is no addition on a cycle in disguise."""
    v = torch.arange(p)
    if task == "add":
        return Labels(v, v, v)
    if task == "subtract":
        return Labels(v, -v % p, v)
    if task == "multiply" and _is_prime(p):
        powers = _powers(p)
        return Labels(powers, powers, powers)
    why = f"{p} is not prime" if task == "multiply" else f"{task!r} is no addition on a cycle in disguise"
    raise UsageError(
        f"no Fourier basis fits this task ({why}); analyze takes add, subtract, and multiply mod a prime"
    )


def _is_prime(p: int) -> bool:
    return p > 1 and all(p % d for d in range(2, int(p**0.5) + 1))


def _powers(p: int) -> Int[Tensor, " n"]:
    """g⁰, g¹, … mod p for the smallest primitive root g."""
    for g in range(2, p):
        powers = [1]
        while (nxt := powers[-1] * g % p) != 1:
            powers.append(nxt)
        if len(powers) == p - 1:
            return torch.tensor(powers)
    return torch.ones(1, dtype=torch.long)  # p = 2


@dataclass(frozen=True)
class View:
    """Every table of a one-layer model in cyclic order, computed when it is first asked for.

    ``neurons[a, b, m]``, ``logits[a, b, c]``, ``pattern[head, position, a, b]`` at the last position;
    ``W_E[a, d]``, ``W_U[c, d]``, ``W_L[c, m]`` (values first, so that they go straight into ``fourier``).
    """

    weights: Weights
    config: OneLayerConfig
    labels: Labels

    @property
    def n(self) -> int:
        """The length of the cycle: p, or p − 1 for multiplication."""
        return len(self.labels.a)

    @cached_property
    def last(self) -> LastPosition:
        return last_position(self.weights, self.config)

    @cached_property
    def all_neurons(self) -> Float[Tensor, "p p m"]:
        """In the order of the tokens, every question."""
        return neurons(self.last, self.config)

    @cached_property
    def direct(self) -> Float[Tensor, "p p p"]:
        """Logits that pass no neuron, in the order of the tokens."""
        return direct_logits(self.last)

    @cached_property
    def all_logits(self) -> Float[Tensor, "p p p"]:
        """In the order of the tokens, every question."""
        return self.direct + self.all_neurons @ output_map(self.weights)

    @cached_property
    def neurons(self) -> Float[Tensor, "n n m"]:
        return self.labels.grid(self.all_neurons)

    @cached_property
    def logits(self) -> Float[Tensor, "n n n"]:
        return self.labels.answers(self.labels.grid(self.all_logits))

    @cached_property
    def pattern(self) -> Float[Tensor, "head pos n n"]:
        return self.last.pattern[:, :, self.labels.a][:, :, :, self.labels.b]

    @cached_property
    def resid_post(self) -> Float[Tensor, "n n d"]:
        """The residual stream at the last position, after the MLP."""
        skip = self.last.linear(torch.eye(self.config.d_model, dtype=self.weights["embed.W_E"].dtype))
        mlp = self.all_neurons @ self.weights[f"{MLP}W_out"] + bias(self.weights, f"{MLP}b_out")
        return self.labels.grid(skip + mlp)

    @property
    def W_E(self) -> Float[Tensor, "n d"]:
        """Of the operands: one row per value; with two vocabularies a's and b's side by side."""
        embed, form = self.weights["embed.W_E"], self.config.question
        first = embed[self.labels.a]
        return torch.cat([first, embed[self.labels.b + form.offset]], 1) if form.offset else first

    @property
    def W_U(self) -> Float[Tensor, "n d"]:
        return self.weights["unembed.W_U"].T[self.labels.c]

    @cached_property
    def W_L(self) -> Float[Tensor, "n m"]:
        return output_map(self.weights).T[self.labels.c]

    @cached_property
    def head_output(self) -> Float[Tensor, "n head d"]:
        """What each head writes for a first operand that it attends to: W_E W_V W_O."""
        w_v, w_o = self.weights[f"{ATTN}W_V"], self.weights[f"{ATTN}W_O"]
        return torch.einsum("nd,hde,hef->nhf", self.weights["embed.W_E"][self.labels.a], w_v, w_o)

    @cached_property
    def neuron_spectrum(self) -> NeuronSpectrum:
        return neuron_spectrum(self.neurons)


def view(weights: Weights, config: OneLayerConfig) -> View:
    """The tables of a model; raises ``UsageError`` for a task with no cyclic group behind it."""
    return View(weights, config, labels(config.task, config.p))


def in_cyclic_order(mask: Bool[Tensor, "p p"] | None, order: Labels) -> Bool[Tensor, "n n"] | None:
    """A mask over questions, relabelled."""
    return None if mask is None else order.grid(mask)
