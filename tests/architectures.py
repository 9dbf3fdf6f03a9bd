"""A tiny random folder of each of many architectures, in which a wrong rotation, norm, bias or window
shows."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

IDS: dict[str, Any] = {"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BASE: dict[str, Any] = {
    **IDS,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = {**BASE, "num_key_value_heads": 2}
HEAD16 = {**GROUPED, "head_dim": 16}
GPT: dict[str, Any] = {**IDS, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128}
NEOX = {**BASE, "hidden_size": 64}
OPT: dict[str, Any] = {
    **IDS,
    "hidden_size": 48,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
FALCON: dict[str, Any] = {**IDS, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SLIDING = {"use_sliding_window": True, "sliding_window": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
MLA: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
ENCODER_DECODER: dict[str, Any] = {
    "vocab_size": 512,
    "d_model": 48,
    "d_ff": 96,
    "d_kv": 12,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


# name -> (class, config class, config)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT),
    "gpt2-untied": ("GPT2LMHeadModel", "GPT2Config", {**GPT, "tie_word_embeddings": False}),
    "gpt2-inverse-layer": ("GPT2LMHeadModel", "GPT2Config", {**GPT, "scale_attn_by_inverse_layer_idx": True}),
    "gpt2-unscaled": ("GPT2LMHeadModel", "GPT2Config", {**GPT, "scale_attn_weights": False}),
    "gpt2-without-head": ("GPT2Model", "GPT2Config", GPT),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", {**GPT, "rotary_dim": 8}),
    "gpt-neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            **IDS,
            "hidden_size": 48,
            "num_layers": 2,
            "num_heads": 4,
            "max_position_embeddings": 128,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
        },
    ),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", NEOX),
    "neox-no-bias": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**NEOX, "attention_bias": False}),
    "neox-sequential": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**NEOX, "use_parallel_residual": False}),
    "opt": ("OPTForCausalLM", "OPTConfig", OPT),
    "opt-350m": (
        "OPTForCausalLM",
        "OPTConfig",
        {**OPT, "word_embed_proj_dim": 24, "do_layer_norm_before": False},
    ),
    "opt-post-norm": ("OPTForCausalLM", "OPTConfig", {**OPT, "do_layer_norm_before": False}),
    "bloom": ("BloomForCausalLM", "BloomConfig", {**IDS, "hidden_size": 48, "n_layer": 2, "n_head": 4}),
    "falcon": ("FalconForCausalLM", "FalconConfig", FALCON),
    "falcon-40b": (
        "FalconForCausalLM",
        "FalconConfig",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "falcon-alibi": (
        "FalconForCausalLM",
        "FalconConfig",
        {**FALCON, "alibi": True, "parallel_attn": False, "bias": True},
    ),
    "mpt": (
        "MptForCausalLM",
        "MptConfig",
        {"vocab_size": 512, "d_model": 48, "n_heads": 4, "n_layers": 2, "max_seq_len": 128},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "llama-biases": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**GROUPED, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-head-size": ("LlamaForCausalLM", "LlamaConfig", HEAD16),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", {**GROUPED, "tie_word_embeddings": True}),
    "llama-rope-llama3": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {
            **GROUPED,
            **rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=64,
            ),
        },
    ),
    "llama-rope-linear": ("LlamaForCausalLM", "LlamaConfig", {**GROUPED, **rope("linear", factor=2.0)}),
    "llama-rope-dynamic": ("LlamaForCausalLM", "LlamaConfig", {**GROUPED, **rope("dynamic", factor=2.0)}),
    "llama-rope-yarn": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**GROUPED, **rope("yarn", factor=4.0, original_max_position_embeddings=32)},
    ),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 16}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**GROUPED, "num_local_experts": 4}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "qwen2-sliding": ("Qwen2ForCausalLM", "Qwen2Config", {**GROUPED, **SLIDING, "max_window_layers": 0}),
    "qwen2-moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**GROUPED, **EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    ),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", HEAD16),
    "qwen3-sliding": ("Qwen3ForCausalLM", "Qwen3Config", {**HEAD16, **SLIDING, "max_window_layers": 1}),
    "qwen3-moe": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {**HEAD16, **EXPERTS, "moe_intermediate_size": 32},
    ),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", HEAD16),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {**HEAD16, "sliding_window": 16, "query_pre_attn_scalar": 16},
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {
            **HEAD16,
            "sliding_window": 16,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi": ("PhiForCausalLM", "PhiConfig", {**BASE, "partial_rotary_factor": 0.5}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", GROUPED),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", {**GROUPED, "partial_rotary_factor": 0.5}),
    "stablelm-parallel": (
        "StableLmForCausalLM",
        "StableLmConfig",
        {
            **GROUPED,
            "partial_rotary_factor": 0.5,
            "use_parallel_residual": True,
            "qk_layernorm": True,
            "use_qkv_bias": True,
        },
    ),
    "cohere": ("CohereForCausalLM", "CohereConfig", GROUPED),
    "cohere-qk-norm": ("CohereForCausalLM", "CohereConfig", {**GROUPED, "use_qk_norm": True}),
    "cohere2": ("Cohere2ForCausalLM", "Cohere2Config", {**GROUPED, "sliding_window": 16}),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", {**GROUPED, "clip_qkv": 0.5}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    "olmo3": ("Olmo3ForCausalLM", "Olmo3Config", {**GROUPED, "sliding_window": 16}),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", {**GROUPED, **EXPERTS}),
    "granite": (
        "GraniteForCausalLM",
        "GraniteConfig",
        {
            **GROUPED,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "granite-moe": (
        "GraniteMoeForCausalLM",
        "GraniteMoeConfig",
        {**GROUPED, "num_local_experts": 4, "residual_multiplier": 0.5},
    ),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", {**GROUPED, "sliding_window": 16}),
    "codegen": ("CodeGenForCausalLM", "CodeGenConfig", {**GPT, "rotary_dim": 8}),
    "bigcode": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT),
    "persimmon": ("PersimmonForCausalLM", "PersimmonConfig", {**BASE, "partial_rotary_factor": 0.5}),
    "nemotron": ("NemotronForCausalLM", "NemotronConfig", {**GROUPED, "partial_rotary_factor": 0.5}),
    "glm": ("GlmForCausalLM", "GlmConfig", HEAD16),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", HEAD16),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", GROUPED),
    "deepseek2": ("DeepseekV2ForCausalLM", "DeepseekV2Config", {**GROUPED, **MLA}),
    "deepseek3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", {**GROUPED, **MLA}),
    "helium": ("HeliumForCausalLM", "HeliumConfig", HEAD16),
    "ernie4.5": ("Ernie4_5ForCausalLM", "Ernie4_5Config", HEAD16),
    "exaone4": ("Exaone4ForCausalLM", "Exaone4Config", {**GROUPED, "sliding_window": 16}),
    "apertus": ("ApertusForCausalLM", "ApertusConfig", GROUPED),
    "seed-oss": ("SeedOssForCausalLM", "SeedOssConfig", HEAD16),
    "arcee": ("ArceeForCausalLM", "ArceeConfig", GROUPED),
    "hunyuan": ("HunYuanDenseV1ForCausalLM", "HunYuanDenseV1Config", HEAD16),
    "bitnet": ("BitNetForCausalLM", "BitNetConfig", GROUPED),
    "gpt-oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**HEAD16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    ),
    "minimax": ("MiniMaxForCausalLM", "MiniMaxConfig", {**HEAD16, "num_local_experts": 4}),
    "biogpt": ("BioGptForCausalLM", "BioGptConfig", BASE),
    "xglm": (
        "XGLMForCausalLM",
        "XGLMConfig",
        {
            **IDS,
            "d_model": 48,
            "ffn_dim": 96,
            "num_layers": 2,
            "attention_heads": 4,
            "max_position_embeddings": 128,
        },
    ),
    "openai-gpt": (
        "OpenAIGPTLMHeadModel",
        "OpenAIGPTConfig",
        {"vocab_size": 512, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128},
    ),
    "ctrl": (
        "CTRLLMHeadModel",
        "CTRLConfig",
        {"vocab_size": 512, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128, "dff": 96},
    ),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        {**IDS, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 4},
    ),
    "rwkv": (
        "RwkvForCausalLM",
        "RwkvConfig",
        {**IDS, "hidden_size": 48, "num_hidden_layers": 2, "context_length": 128},
    ),
    "recurrent-gemma": (
        "RecurrentGemmaForCausalLM",
        "RecurrentGemmaConfig",
        {**GROUPED, "lru_width": 48, "attention_window_size": 16},
    ),
    "lfm2": ("Lfm2ForCausalLM", "Lfm2Config", {**GROUPED, "layer_types": ["conv", "full_attention"]}),
    "t5": ("T5ForConditionalGeneration", "T5Config", ENCODER_DECODER),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {
            **IDS,
            "d_model": 48,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 96,
            "decoder_ffn_dim": 96,
            "max_position_embeddings": 128,
        },
    ),
    "bert-mlm": ("BertForMaskedLM", "BertConfig", BASE),
    "roberta": ("RobertaModel", "RobertaConfig", BASE),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"vocab_size": 512, "dim": 48, "hidden_dim": 96, "n_layers": 2, "n_heads": 4},
    ),
    "mpnet": ("MPNetModel", "MPNetConfig", BASE),
    "xlnet": (
        "XLNetLMHeadModel",
        "XLNetConfig",
        {"vocab_size": 512, "d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 96},
    ),
    "qwen2-vl": (
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        {
            "text_config": {**GROUPED, **rope("default", mrope_section=[2, 2, 2])},
            "vision_config": {
                "depth": 2,
                "embed_dim": 32,
                "hidden_size": 48,
                "num_heads": 2,
                "patch_size": 14,
            },
        },
    ),
    "gemma3-images": (
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {
            "text_config": {**HEAD16, "sliding_window": 16, "query_pre_attn_scalar": 16},
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 4,
        },
    ),
    "llava": (
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "text_config": {**GROUPED, "model_type": "llama"},
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "projection_dim": 16,
            },
            "image_token_index": 500,
            "image_seq_length": 4,
        },
    ),
}


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
        return model(tokens), list(blocks.values())
