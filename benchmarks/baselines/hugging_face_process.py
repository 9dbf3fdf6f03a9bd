"""The straightforward script that a probe of a language model is compared with: no statistics, no controls,
nothing spared.

    python benchmarks/baselines/hugging_face_process.py FOLDER PROMPTS.json OUT.pt

Loads the folder in float32, runs all prompts in one padded batch with ``output_hidden_states``, saves the
hidden states.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer


def main(folder: str, prompts: str, out: str) -> None:
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(json.loads(Path(prompts).read_text()), return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    torch.save(torch.stack(states), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
