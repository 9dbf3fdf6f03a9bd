"""Training of the ``calendar`` model: a small Qwen3 that learns calendar and modular arithmetic from
sentences.

The recipe follows what is known to make small transformers generalise on modular addition (Power et al. 2022,
arXiv:2201.02177; Nanda et al. 2023, arXiv:2301.05217): a high learning rate, strong weight decay, the loss on
the answer token only, and many more passes over the training sentences than fitting them takes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.files import write_files_with
from mechfourier.toys.calendar.card import write_card
from mechfourier.toys.calendar.task import Operation, operations
from mechfourier.toys.calendar.text import held_out_text, training_text
from mechfourier.toys.calendar.tokens import END, build_tokenizer
from mechfourier.training.descent import cosine
from mechfourier.training.loop import TrainingResult, run_training

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3Config

IGNORED = -100  # no loss at this position
EVALUATE_EVERY, CHECKPOINT_EVERY = 250, 1000  # steps


@dataclasses.dataclass(frozen=True)
class CalendarRecipe:
    """All that decides the outcome. ``text_share`` of each batch is running text, with the loss on every
    token."""

    steps: int = 12_000
    seed: int = 0
    batch: int = 256
    text_share: float = 0.06
    lr: float = 2e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 100
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 2
    d_mlp: int = 384
    tied: bool = True


@dataclasses.dataclass(frozen=True)
class Batch:
    """Token rows padded on the right (a causal model never looks there), and the token wanted after each
    position."""

    ids: Int[Tensor, "row pos"]
    targets: Int[Tensor, "row pos"]

    def __getitem__(self, rows: Tensor) -> "Batch":
        ids, targets = self.ids[rows], self.targets[rows]
        width = int((targets != IGNORED).any(0).nonzero().max()) + 1
        return Batch(ids[:, :width], targets[:, :width])


def operation_rows(tokenizer: "PreTrainedTokenizerFast", operation: Operation, *, held_out: bool) -> Batch:
    """The sentences of one operation, the loss on the answer only."""
    chosen = [s for s in operation.sentences if s.held_out == held_out]
    prompts = tokenizer([s.prompt for s in chosen])["input_ids"]
    answers = tokenizer([s.answer for s in chosen])["input_ids"]
    return _padded(
        [(ids, [IGNORED] * (len(ids) - 1) + answer) for ids, answer in zip(prompts, answers, strict=True)]
    )


def text_rows(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> Batch:
    """Running text, the loss on every token after the first."""
    return _padded([(ids[:-1], ids[1:]) for ids in tokenizer(list(texts))["input_ids"]])


def _padded(rows: list[tuple[list[int], list[int]]]) -> Batch:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    targets = torch.tensor([targets + [IGNORED] * (width - len(targets)) for _, targets in rows])
    return Batch(ids, targets)


def _joined(batches: Sequence[Batch]) -> Batch:
    width = max(batch.ids.shape[1] for batch in batches)
    pad = torch.nn.functional.pad
    return Batch(
        torch.cat([pad(batch.ids, (0, width - batch.ids.shape[1])) for batch in batches]),
        torch.cat([pad(b.targets, (0, width - b.targets.shape[1]), value=IGNORED) for b in batches]),
    )


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All sentences as tokens; ``draw_weights`` are those of the training sentences."""

    tokenizer: "PreTrainedTokenizerFast"
    sentences: Batch
    draw_weights: Float[Tensor, " sentence"]
    held_out: dict[str, Batch]
    text: Batch
    held_out_text: Batch


@functools.cache
def load_corpus() -> Corpus:
    """The corpus of ``mechfourier.toys.calendar.task``, made once per process."""
    tokenizer, families = build_tokenizer(), operations()
    training = [operation_rows(tokenizer, family, held_out=False) for family in families]
    # Each sentence is drawn with weight 1 / sqrt(sentences of its operation), times the operation's own
    # weight.
    sizes = torch.tensor([len(rows.ids) for rows in training])
    weights = torch.tensor([family.weight for family in families]) * sizes.double().rsqrt()
    return Corpus(
        tokenizer=tokenizer,
        sentences=_joined(training),
        draw_weights=weights.repeat_interleave(sizes),
        held_out={family.name: operation_rows(tokenizer, family, held_out=True) for family in families},
        text=text_rows(tokenizer, training_text()),
        held_out_text=text_rows(tokenizer, held_out_text()),
    )


class CalendarTrainee:
    """The calendar model as a ``Trainee`` of the loop."""

    def __init__(self, recipe: CalendarRecipe) -> None:
        from transformers import Qwen3ForCausalLM

        self.recipe = recipe
        self.corpus = load_corpus()
        self.generator = torch.Generator().manual_seed(recipe.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = Qwen3ForCausalLM(self._qwen3_config()).float()
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        scales = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices}, {"params": scales, "weight_decay": 0.0}],
            lr=recipe.lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
        )

    def _qwen3_config(self) -> "Qwen3Config":
        from transformers import Qwen3Config

        recipe, vocabulary = self.recipe, self.corpus.tokenizer.get_vocab()
        return Qwen3Config(
            vocab_size=len(vocabulary),
            hidden_size=recipe.d_model,
            intermediate_size=recipe.d_mlp,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.n_heads,
            num_key_value_heads=recipe.n_kv_heads,
            head_dim=recipe.d_model // recipe.n_heads,
            max_position_embeddings=64,
            tie_word_embeddings=recipe.tied,
            bos_token_id=None,
            eos_token_id=vocabulary[END],
            pad_token_id=vocabulary[END],
            use_cache=False,
            dtype="float32",
        )

    # the loop's side

    def config(self) -> dict[str, Any]:
        """The Hugging Face configuration of the model, and the recipe under ``mechfourier_training``."""
        settings = self.model.config.to_diff_dict()
        settings.pop("transformers_version", None)  # a run may be resumed after an upgrade
        return {
            **settings,
            "architectures": ["Qwen3ForCausalLM"],
            "mechfourier_training": dataclasses.asdict(self.recipe),
        }

    def step(self, index: int) -> dict[str, float]:
        recipe, corpus = self.recipe, self.corpus
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * cosine(index, recipe.steps, warmup=recipe.warmup)
        n_text = round(recipe.batch * recipe.text_share)
        drawn = torch.multinomial(
            corpus.draw_weights, recipe.batch - n_text, replacement=True, generator=self.generator
        )
        texts = torch.randint(len(corpus.text.ids), (n_text,), generator=self.generator)
        sentences, text = corpus.sentences[drawn], corpus.text[texts]
        loss = self.loss(sentences)
        text_loss = self.loss(text)
        # The text counts by its share of the rows, whatever its number of tokens.
        total = (1 - recipe.text_share) * loss + recipe.text_share * text_loss
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        return {"loss": loss.item(), "text_loss": text_loss.item()}

    def logits(self, batch: Batch) -> Float[Tensor, "wanted vocab"]:
        """Logits at the positions with a target only, row-major.

        The same as the whole forward pass, but the last MLP sees the wanted positions only: a third of the
        work.
        """
        core: Any = self.model.model
        hidden = core.embed_tokens(batch.ids)
        rotary = core.rotary_emb(hidden, torch.arange(batch.ids.shape[1])[None])
        for layer in core.layers[:-1]:
            hidden = layer(hidden, position_embeddings=rotary, attention_mask=None)
        last = core.layers[-1]
        attended, _ = last.self_attn(
            last.input_layernorm(hidden), position_embeddings=rotary, attention_mask=None
        )
        wanted = (hidden + attended)[batch.targets != IGNORED]
        wanted = wanted + last.mlp(last.post_attention_layernorm(wanted))
        return self.model.lm_head(core.norm(wanted))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the positions with a target, nats."""
        return torch.nn.functional.cross_entropy(self.logits(batch), batch.targets[batch.targets != IGNORED])

    @torch.no_grad()
    def evaluate(self, index: int) -> dict[str, float]:
        """Accuracy on the held-out sentences: the mean over operations, the worst, each one, and text
        perplexity."""
        del index
        accuracy = {name: self.accuracy(batch) for name, batch in self.corpus.held_out.items()}
        return {
            "held_out": sum(accuracy.values()) / len(accuracy),
            "worst": min(accuracy.values()),
            "perplexity": math.exp(self.loss(self.corpus.held_out_text).item()),
            **{f"held_out/{name}": value for name, value in accuracy.items()},
        }

    def accuracy(self, batch: Batch) -> float:
        """Share of rows whose most likely next token (of the whole vocabulary) is the answer."""
        wanted = batch.targets[batch.targets != IGNORED]
        return (self.logits(batch).argmax(-1) == wanted).double().mean().item()

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])

    def weights(self) -> dict[str, Tensor]:
        """The weights under Hugging Face's names; a tied unembedding is stored once."""
        tensors = dict(self.model.state_dict())
        if self.recipe.tied:
            tensors.pop("lm_head.weight", None)
        return tensors


class CalendarRun(TrainingResult):
    """A finished training of the calendar model."""

    def __str__(self) -> str:
        prefix, metrics = "held_out/", self.metrics
        rows = [f"  {n.removeprefix(prefix):<16}{v:7.2%}" for n, v in metrics.items() if n.startswith(prefix)]
        return "\n".join(
            [
                "held-out accuracy",
                *rows,
                f"text perplexity {metrics['perplexity']:.2f}",
                f"{self.steps} steps in {self.seconds:.0f} s; weights and metrics are in {self.folder}",
            ]
        )


def train_calendar(
    recipe: CalendarRecipe,
    folder: str | Path,
    *,
    resume: bool = False,
    on_evaluate: Callable[[int, dict[str, float]], None] | None = None,
) -> CalendarRun:
    """Train the calendar model in ``folder`` and put its tokenizer and its README beside it: the folder loads
    on its own.

    Raises what ``run_training`` raises.
    """
    trainee = CalendarTrainee(recipe)
    result = run_training(
        trainee,
        folder,
        steps=recipe.steps,
        evaluate_at=EVALUATE_EVERY,
        checkpoint_at=CHECKPOINT_EVERY,
        resume=resume,
        label="train calendar",
        on_evaluate=on_evaluate,
    )
    write_files_with(folder, trainee.corpus.tokenizer.save_pretrained)
    write_card(folder, recipe, result)
    return CalendarRun(**vars(result))
