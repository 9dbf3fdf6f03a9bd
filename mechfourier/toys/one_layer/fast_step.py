"""The one-layer transformer's full-batch step without the wasted work: same parameters, same loss, same
gradients.

Only the last position is read, and its token is always ``=``: its query is one vector. So every key score and
every value is a row of a table over (token, position), and what the MLP sees is a weighted sum of nine such
rows:

    pre[a, b] = constant + Σ_head  α_head(a, b) T_head,0[a] + β_head(a, b) T_head,1[b]

with T already multiplied by W_V, W_O and W_in (and, for the direct path to the logits, W_U). The third
attention weight is 1 − α − β, which turns its row into the constant. The tables cost p rows instead of
train_fraction · p², and the sum is an ``embedding_bag``; of the big matrix products only those with W_L =
W_out W_U remain.
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.toys.one_layer.weights import OneLayerConfig

Weights = dict[str, Tensor]
SPARSE_DEVICES = ("cpu", "cuda")  # MPS has no sparse products
# relu may overwrite its input: the mix does not need its output again.
ACTIVATION = {"relu": F.relu_, "gelu": F.gelu, "square": torch.square}


@dataclass(frozen=True, eq=False)
class Rows:
    """Which table rows each pair mixes: ``index[pair, bag]``, and the same list sorted by row for the
    backward pass."""

    index: Int[Tensor, "pair bag"]
    order: Int[Tensor, " entry"]
    pair: Int[Tensor, " entry"]
    offsets: Int[Tensor, " row"]
    patterns: dict[torch.dtype, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Int[Tensor, "pair 2"], p: int, n_heads: int) -> "Rows":
        """Table rows are (position, token, head), then one constant row."""
        head = torch.arange(n_heads, device=pairs.device)
        first, second = pairs[:, :1] * n_heads + head, (p + pairs[:, 1:]) * n_heads + head
        constant = torch.full_like(pairs[:, :1], 2 * p * n_heads)
        index = torch.cat([first, second, constant], dim=1)
        counts = torch.bincount(index.flatten(), minlength=2 * p * n_heads + 1)
        order = index.flatten().argsort(stable=True)
        return cls(index, order, order // index.shape[1], counts.cumsum(0) - counts)

    def pattern(self, dtype: torch.dtype) -> Tensor:
        """``index`` as an empty sparse matrix [pair, row]; made once, since the pairs of a run stay the
        same."""
        if dtype not in self.patterns:
            starts = torch.arange(0, self.index.numel() + 1, self.index.shape[1], device=self.index.device)
            zeros = torch.zeros(self.index.numel(), dtype=dtype, device=self.index.device)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
                self.patterns[dtype] = torch.sparse_csr_tensor(
                    starts,
                    self.index.flatten(),
                    zeros,
                    (len(self.index), len(self.offsets)),
                    check_invariants=True,
                )
        return self.patterns[dtype]


class _Mix(torch.autograd.Function):
    """``out[pair] = Σ_bag share[pair, bag] · table[index[pair, bag]]``; both gradients without a scatter."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, share: Tensor, rows: Rows) -> Tensor:
        ctx.save_for_backward(table, share)
        ctx.rows = rows
        return F.embedding_bag(rows.index, table, per_sample_weights=share, mode="sum")

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        table, share = ctx.saved_tensors
        rows, (gradient,) = ctx.rows, upstream
        by_row = share.flatten()[rows.order]
        to_table = F.embedding_bag(rows.pair, gradient, rows.offsets, per_sample_weights=by_row, mode="sum")
        return to_table, _sampled_product(gradient, table, rows), None


def _sampled_product(left: Float[Tensor, "pair d"], table: Float[Tensor, "row d"], rows: Rows) -> Tensor:
    """``left[pair] · table[index[pair, bag]]`` for the listed rows only."""
    product = torch.sparse.sampled_addmm(rows.pattern(left.dtype), left, table.T, beta=0)
    return product.values().view(rows.index.shape)


def mix(
    table: Float[Tensor, "row d"], share: Float[Tensor, "pair bag"], rows: Rows
) -> Float[Tensor, "pair d"]:
    """Weighted sums of table rows; a gather where the device has no sparse products (MPS)."""
    if table.device.type in SPARSE_DEVICES:
        return _Mix.apply(table, share, rows)  # pyright: ignore[reportReturnType]
    return torch.bmm(share[:, None], table[rows.index])[:, 0]


class _ExactCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy whose gradient keeps its relative precision when the answer has probability 1 −
    1e-9.

    log-softmax in float32 loses both there, which is why others compute it in float64. Here the loss is
    log1p(Σ_wrong e^l / e^l_right) and the gradient at the right answer −Σ_wrong of the others': no
    cancellation.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, answers: Tensor) -> Tensor:
        answer = answers[:, None]
        top = logits.max(dim=1, keepdim=True).values
        share = (logits - top).exp_()
        right = share.gather(1, answer)
        wrong = share.scatter_(1, answer, 0.0).sum(dim=1, keepdim=True)
        total = right + wrong
        unlikely = total.log() - (logits.gather(1, answer) - top)
        loss = torch.where(
            right > wrong, torch.log1p(wrong / right.clamp_min(torch.finfo(right.dtype).tiny)), unlikely
        )
        scale = total * logits.shape[0]
        ctx.save_for_backward(share.div_(scale).scatter_(1, answer, -wrong / scale))
        return loss.mean()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * upstream[0], None


def cross_entropy(logits: Float[Tensor, "pair p"], answers: Int[Tensor, " pair"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats, as exact in float32 as through a float64 log-softmax."""
    return _ExactCrossEntropy.apply(logits, answers)  # pyright: ignore[reportReturnType]


def stablemax_cross_entropy(
    logits: Float[Tensor, "pair p"], answers: Int[Tensor, " pair"]
) -> Float[Tensor, ""]:
    """Cross-entropy with s(x) = x + 1 (x ≥ 0), 1 / (1 − x) (x < 0) in place of e^x (Prieto et al. 2025, arXiv
    2501.04697)."""
    logits = logits.double()
    log_s = torch.where(logits >= 0, torch.log1p(logits.clamp_min(0)), -torch.log1p(-logits.clamp_max(0)))
    right = log_s.gather(1, answers[:, None])[:, 0]
    return (log_s.logsumexp(dim=1) - right).mean()


class FastLogits:
    """Last-position logits of fixed ``pairs``, differentiable in the weights; equal to
    ``OneLayerTransformer``'s.

    Needs three positions (with two the query is no constant). Raises ``UsageError`` otherwise.
    """

    def __init__(self, config: OneLayerConfig, pairs: Int[Tensor, "pair 2"]) -> None:
        if config.n_ctx != 3:
            raise UsageError(
                "the fast step needs the '=' position (n_ctx = 3); use OneLayerTransformer itself"
            )
        self.config = config
        self.pairs = pairs
        self.rows = Rows.of(pairs, config.p, config.n_heads)

    def __call__(self, weights: Weights) -> Float[Tensor, "pair p"]:
        post, share, value, constant = self._mlp(weights)
        w_u = weights["unembed.W_U"]
        constant = constant + _bias(weights, "blocks.0.mlp.b_out")
        table = self._table(weights, value, constant @ w_u + _bias(weights, "unembed.b_U"), w_u)
        return torch.addmm(mix(table, share, self.rows), post, weights["blocks.0.mlp.W_out"] @ w_u)

    def neurons(self, weights: Weights) -> Float[Tensor, "pair d_mlp"]:
        """``blocks.0.mlp.hook_post`` at the last position."""
        return self._mlp(weights)[0]

    def _mlp(self, weights: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Neuron activations, and what the direct path to the logits shares with them."""
        tokens, equals = self._residual(weights)
        share = self._shares(weights, tokens, equals)
        value, constant = self._values(weights, tokens, equals)
        w_in = weights["blocks.0.mlp.W_in"]
        table = self._table(weights, value, constant @ w_in + _bias(weights, "blocks.0.mlp.b_in"), w_in)
        return ACTIVATION[self.config.act](mix(table, share, self.rows)), share, value, constant

    def _residual(self, weights: Weights) -> tuple[Float[Tensor, "two p d"], Float[Tensor, " d"]]:
        """The residual stream before attention: of tokens at positions 0 and 1, and of ``=`` at 2."""
        embed, pos = weights["embed.W_E"], weights["pos_embed.W_pos"]
        return embed[None, : self.config.p] + pos[:2, None], embed[self.config.p] + pos[2]

    def _shares(self, weights: Weights, tokens: Tensor, equals: Tensor) -> Float[Tensor, "pair bag"]:
        """Attention from ``=`` to the two operands, per head, and 1 for the constant row."""
        attn, c = "blocks.0.attn.", self.config.attn_coeff
        query = einsum(equals, weights[f"{attn}W_Q"], "d, head d e -> head e") + _bias(weights, f"{attn}b_Q")
        query = query / math.sqrt(self.config.d_head)
        # Score = query · (x W_K + b_K); the bias adds the same to all three positions and drops out of the
        # softmax.
        probe = einsum(weights[f"{attn}W_K"], query, "head d e, head e -> d head")
        operand, own = tokens @ probe, equals @ probe
        first, second = operand[0][self.pairs[:, 0]] - own, operand[1][self.pairs[:, 1]] - own
        top = torch.maximum(first, second).clamp_min(0).detach()
        scores = torch.stack([first - top, second - top], dim=1).exp()
        pattern = scores / (scores.sum(dim=1, keepdim=True) + torch.exp(-top)[:, None])
        share = rearrange(c * pattern + (1 - c), "pair two head -> pair (two head)")
        return torch.cat([share, torch.ones_like(share[:, :1])], dim=1)

    def _values(
        self, weights: Weights, tokens: Tensor, equals: Tensor
    ) -> tuple[Float[Tensor, "head row d_head"], Float[Tensor, " d"]]:
        """Values relative to that of ``=``, and the residual stream where attention looks at ``=`` only."""
        attn = "blocks.0.attn."
        value = einsum(tokens - equals, weights[f"{attn}W_V"], "two p d, head d e -> head two p e")
        own = einsum(equals, weights[f"{attn}W_V"], "d, head d e -> head e") + _bias(weights, f"{attn}b_V")
        # With attention c · softmax + (1 − c) the three weights sum to 3 − 2c, not to 1.
        own = (3 - 2 * self.config.attn_coeff) * einsum(own, weights[f"{attn}W_O"], "head e, head e d -> d")
        return rearrange(value, "head two p e -> head (two p) e"), equals + own + _bias(weights, f"{attn}b_O")

    def _table(
        self, weights: Weights, value: Tensor, constant: Tensor, out: Float[Tensor, "d out"]
    ) -> Float[Tensor, "row out"]:
        """What each row of values adds to ``residual @ out``, and the constant as the last row."""
        table = torch.bmm(value, weights["blocks.0.attn.W_O"] @ out)
        return torch.cat([rearrange(table, "head row out -> (row head) out"), constant[None]])


def _bias(weights: Weights, name: str) -> Tensor | float:
    return weights.get(name, 0.0)
