"""Sentence encoders of the BERT family (all-MiniLM-L6-v2) as a HookedEncoder, loaded without a network.

Such a checkpoint has no vocabulary head. The outcome of the model is therefore the sentence embedding: what
the folder's own pooling makes of the last layer's vectors (``pooling.py``), by default their mean over the
tokens, scaled to length 1 (Reimers & Gurevych 2019, arXiv 1908.10084). There are no logits, so probes of
activations work, and what scores answers (``ablate``, logit lens) does not.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformers import BertConfig, BertForPreTraining

from mechfourier.errors import BadCheckpoint, UsageError, nearest
from mechfourier.models.adapters import adapter_in
from mechfourier.models.check_memory import check_key, remember, remembered
from mechfourier.models.folder import brief, read_config, read_header, weight_files
from mechfourier.models.hugging_face import load_tokenizer, read_weights
from mechfourier.models.pooling import Pooling, read_pooling
from mechfourier.models.pretrained import HAS_HOOKED
from mechfourier.models.quiet import quiet
from mechfourier.models.selfcheck import STEPS, TOLERANCE, SelfCheck, check_tokens, difference
from mechfourier.models.weight_names import refuse_quantised, refuse_wrong_names, strip_prefixes

if not HAS_HOOKED:
    raise UsageError(
        "minilm runs on HookedEncoder, which left TransformerLens in 4.0; install it with: pip install "
        "'transformer-lens<4'"
    )
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformer_lens import HookedEncoder, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_bert_weights

HEADS = (
    "mlm_head",
    "unembed",
    "nsp_head",
    "pooler",
)  # parts of HookedEncoder that the checkpoint does not have
RETURN_TYPES = ("embedding", "resid", None)
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "silu": "silu"}


class SentenceEncoder(HookedEncoder):
    """A HookedEncoder without vocabulary head. ``blocks.L.hook_normalized_resid_post`` is Hugging Face's
    hidden state L + 1; ``blocks.L.hook_resid_post`` is the same vector before its layer norm (BERT normalises
    after each block)."""

    def __init__(
        self, cfg: HookedTransformerConfig, tokenizer: Any | None = None, pooling: Pooling | None = None
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # HookedEncoder leaves in TransformerLens 4
            super().__init__(cfg, tokenizer, move_to_device=False)
        self.pooling = pooling or Pooling()
        for head in HEADS:
            delattr(self, head)
        self.setup()

    def to_tokens(self, input: str | Sequence[str], **options: Any) -> Int[Tensor, "batch pos"]:  # type: ignore[override]
        """Token ids with [CLS] and [SEP], padded on the right to the longest prompt."""
        del options  # TransformerLens's own arguments (prepend_bos …) have no meaning here
        return self._tokenise(input)["input_ids"]

    def _tokenise(self, prompts: str | Sequence[str]) -> dict[str, Tensor]:
        if self.tokenizer is None:
            raise UsageError("this model has no tokenizer; pass token ids")
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        batch = self.tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=self.cfg.n_ctx
        )
        return {key: value.to(self.cfg.device) for key, value in batch.items()}

    def forward(  # type: ignore[override]
        self,
        input: str | Sequence[str] | Int[Tensor, "batch pos"],
        return_type: str | None = "embedding",
        *,
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch *rest"] | None:
        """``return_type``: ``"embedding"`` ``[batch, d_model]``, ``"resid"`` ``[batch, pos, d_model]``, or
        None.

        With ``stop_at_layer`` the residual stream before that layer is returned, as in HookedTransformer.
        Raises ``UsageError`` for ``"logits"``: there is no vocabulary head.
        """
        if return_type not in RETURN_TYPES:
            raise UsageError(
                f"{getattr(self, 'mechfourier_name', 'this sentence encoder')} has no {return_type}: it has "
                f"no vocabulary "
                "head, its outcome is a sentence embedding (return_type='embedding'); probe its activations "
                "instead"
            )
        tokens, mask = self._as_tokens(input, attention_mask)
        resid = self.hook_full_embed(self.embed(tokens, None))
        hidden = None if mask is None else rearrange(mask == 0, "batch key -> batch 1 1 key")
        additive = None if hidden is None else torch.where(hidden, -torch.inf, 0.0)
        for block in self.blocks[:stop_at_layer]:
            resid = block(resid, additive)
        if return_type is None and stop_at_layer is None:
            return None
        return resid if return_type != "embedding" or stop_at_layer is not None else self.pooling(resid, mask)

    def _as_tokens(self, prompts: Any, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if isinstance(prompts, Tensor):
            return prompts.to(self.cfg.device), mask
        batch = self._tokenise(prompts)
        return batch["input_ids"], batch["attention_mask"]

    def run_with_cache(self, *args: Any, return_cache_object: bool = True, **kwargs: Any) -> Any:  # type: ignore[override]
        """As in HookedEncoder."""
        return super().run_with_cache(*args, return_cache_object=return_cache_object, **kwargs)


def load_folder(
    folder: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None, check: bool = True
) -> SentenceEncoder:
    """A Hugging Face ``BertModel`` folder as a ``SentenceEncoder``; only its safetensors file is read.

    Unless ``check`` is off, it is held against transformers' own forward pass the first time
    (``mechfourier_check``).
    """
    folder = Path(folder)
    config = read_config(folder)
    refuse_quantised(folder, config)
    cfg = encoder_config(config, device=device, dtype=dtype or torch.float32)
    pooling = read_pooling(folder)
    if adapter_in(folder) is not None:
        raise UsageError(
            f"{folder} holds an adapter beside a sentence encoder, which is not merged here; merge it and "
            f"save the model"
        )
    files = weight_files(folder)
    for path in files:
        read_header(path)
    key = (
        check_key(files, json.dumps(config, sort_keys=True), dtype=cfg.dtype, device=device) if check else ""
    )
    with quiet():
        model = SentenceEncoder(cfg, load_tokenizer(folder), pooling)
        bert = _bert(folder, cfg)
        weights = _converted(bert, cfg)
    model.load_state_dict(weights, strict=False, assign=True)
    if absent := sorted({name for name, _ in model.named_parameters()} - set(weights)):
        raise BadCheckpoint(f"{folder} gives no weights for {absent[0]}; download it again")
    model = model.to(device, print_details=False).eval().requires_grad_(False)
    model.mechfourier_check = _checked(model, bert, key)
    return model


def _checked(model: SentenceEncoder, bert: Any, key: str) -> SelfCheck:
    """Hidden states of both on the same tokens; raises ``EngineDiffers`` with the first layer that
    differs."""
    if (known := remembered(key) if key else None) or not key:
        return known or SelfCheck("hooked")
    tokens = check_tokens(bert.config, model.tokenizer).to(model.cfg.device)
    with torch.no_grad():
        theirs = bert.to(model.cfg.device).eval().bert(tokens, output_hidden_states=True).hidden_states[1:]
        _, cache = model.run_with_cache(tokens, return_type=None)
    limit = max(TOLERANCE, STEPS * torch.finfo(model.cfg.dtype).eps)
    errors = [
        difference(
            cache[f"blocks.{layer}.hook_normalized_resid_post"][0],
            state[0],
            limit,
            f"its hidden state after block {layer}",
        )
        for layer, state in enumerate(theirs)
    ]
    found = SelfCheck("hooked", tokens.shape[1], max(errors), 0.0, tuple(range(len(errors))))
    remember(key, found)
    return found


def _bert(folder: Path, cfg: HookedTransformerConfig) -> Any:
    """Transformers' own model, its names held against the file's: the encoder must be whole, heads may be
    there or not."""
    tensors = strip_prefixes(read_weights(weight_files(folder), cfg.dtype))
    try:
        loaded: Any = BertForPreTraining.from_pretrained(
            None,
            config=BertConfig.from_pretrained(str(folder), local_files_only=True),
            state_dict=dict(tensors),
            dtype=cfg.dtype,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadCheckpoint(f"{folder} cannot be loaded ({brief(error)}); download it again") from error
    bert, report = loaded
    heads = ("cls.", "bert.pooler.", "pooler.")
    wrong = {
        kind: [n for n in report[kind] if not n.startswith(heads)]
        for kind in ("missing_keys", "unexpected_keys")
    }
    refuse_wrong_names(folder, "a BERT encoder", wrong, tensors)
    return bert


def _converted(bert: Any, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """The encoder's tensors under TransformerLens's names; the pooler and the heads, which it does not use,
    are left out."""
    renamed = convert_bert_weights(bert, cfg)
    return {name: value.detach() for name, value in renamed.items() if not name.startswith(HEADS)}


def encoder_config(config: dict[str, Any], *, device: str, dtype: torch.dtype) -> HookedTransformerConfig:
    """TransformerLens's config for Hugging Face's ``BertConfig``; raises ``BadCheckpoint`` for an unknown
    variant."""
    act = str(config.get("hidden_act"))
    if act not in ACTIVATIONS or config.get("position_embedding_type", "absolute") != "absolute":
        raise BadCheckpoint(
            f"a BERT with hidden_act {act!r} and {config.get('position_embedding_type')} positions is not "
            f"supported; "
            f"closest activation: {nearest(act, ACTIVATIONS)}, positions: absolute"
        )
    try:
        return HookedTransformerConfig(
            n_layers=config["num_hidden_layers"],
            d_model=config["hidden_size"],
            n_heads=config["num_attention_heads"],
            d_head=config["hidden_size"] // config["num_attention_heads"],
            d_mlp=config["intermediate_size"],
            n_ctx=config["max_position_embeddings"],
            d_vocab=config["vocab_size"],
            eps=config["layer_norm_eps"],
            act_fn=ACTIVATIONS[act],
            attention_dir="bidirectional",
            normalization_type="LN",
            init_weights=False,
            original_architecture="BertModel",
            device=device,
            dtype=dtype,
        )
    except KeyError as error:
        raise BadCheckpoint(f"config.json of this BERT lacks {error}; fetch it again") from error
