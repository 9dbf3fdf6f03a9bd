"""What the configurations of networks that answer about pairs (a, b) of numbers mod p have in common."""

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.toys.config import NetworkConfig
from mechfourier.toys.forms import Form, form_of
from mechfourier.toys.one_layer.task import task


class PairConfig(NetworkConfig):
    """Base of their configurations. It is no dataclass: each of them says the defaults of these fields, and
    where they stand in its JSON."""

    p: int
    n_ctx: int
    act: str
    task: str
    form: str
    vocabularies: int
    table: tuple[int, ...]

    @property
    def question(self) -> Form:
        """How a question is written."""
        return form_of(self.form, self.n_ctx, self.p, self.vocabularies)

    @property
    def answers(self) -> Int[Tensor, "p p"]:
        """The right answer of every question."""
        if self.task == "table":
            return torch.tensor(self.table).reshape(self.p, self.p)
        return task(self.task).table(self.p)

    @property
    def d_vocab(self) -> int:
        return self.question.d_vocab

    @property
    def d_vocab_out(self) -> int:
        return self.p

    @property
    def act_fn(self) -> str:  # type: ignore[override]
        return self.act
