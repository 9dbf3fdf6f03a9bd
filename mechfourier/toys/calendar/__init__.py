"""Calendar arithmetic in words: the small Qwen3-shaped model that ships with the package."""
