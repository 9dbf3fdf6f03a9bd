"""Addition modulo p in a perceptron: a network of somebody else's package, found by mechfourier through its
entry point."""

from mechfourier.models.architectures import Architecture

RECORD = Architecture(
    name="mlp-mod",
    title="addition mod p in a perceptron",
    load="mlp_mod.model:load_folder",
    own_domain="mlp_mod:own_domain",
    train="mlp_mod.training:train",
    analyze="mlp_mod.analysis:analyze",
)


def own_domain(config: dict[str, object]) -> str:
    """The questions that the network was trained on, where a command is given no domain."""
    return f"mod-{config['p']}"
