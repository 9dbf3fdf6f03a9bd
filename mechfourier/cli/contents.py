"""The first page of ``mechfourier --help``: the five commands to begin with, and the others by the question
they answer."""

from typing import Any

from mechfourier.cli.refusals import Commands

FIRST = {
    "probe": "Is this quantity on a circle in the model? A verdict and why.",
    "study": "Is it on a circle, and does the model use it? With interventions.",
    "tasks": "What can the model answer? Accuracy by task, with exact tests.",
    "train": "Train the toy networks: one-layer, adder, calendar, miras.",
    "report": "Results as one self-contained HTML page.",
}
# heading -> command -> what it does, in at most 22 characters: two of them stand in a line of 80
OTHERS = {
    "What a model represents": {
        "atlas": "all domains, one page",
        "scan": "circles of many moduli",
        "helix": "number line in base 10",
        "attention": "tokens that heads read",
        "lens": "answer by layer",
        "analogies": "a is to b as c is to d",
        "reducibility": "is a plane irreducible",
    },
    "What it uses": {
        "ablate": "take dimensions out",
        "patch": "from another prompt",
        "rotate": "turn a plane by δ",
        "steer": "write as if it said so",
        "behaviour": "geometry of answers",
        "periods": "base 10, or a line",
        "stability": "over seeds",
        "attribution": "margin by component",
        "find-plane": "a plane by gradient",
        "sweep-ablate": "ablate every unit",
    },
    "Dictionaries, activations, networks": {
        "sae": "sparse autoencoders",
        "capture": "activations on disk",
        "analyze": "a network, taken apart",
        "sweep-accuracy": "over its whole range",
        "sweep": "settings on a grid",
        "import": "a foreign checkpoint",
        "animate": "a training as a video",
        "serve": "results as web pages",
    },
    "What there is": {
        "models": "models with a name",
        "domains": "cyclic quantities",
        "hooks": "a model's hook points",
        "cache": "what is kept on disk",
        "doctor": "versions and devices",
        "validate": "error rates, measured",
        "reproduce": "published experiments",
        "gallery": "every figure as PNG",
    },
}
CELL = 40


class Contents(Commands):
    """The group of all commands, listed by purpose instead of by name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Start with"):
            formatter.write_dl([(name, FIRST[name]) for name in FIRST if name in self.commands])
        known = {name for group in OTHERS.values() for name in group} | FIRST.keys()
        rest = {name: c for name, c in self.commands.items() if name not in known and not c.hidden}
        short = {name: command.get_short_help_str(22) for name, command in rest.items()}
        formatter.write("\n")
        for heading, group in {**OTHERS, "More": short}.items():
            if cells := [f"  {name:<14} {group[name]}" for name in group if name in self.commands]:
                formatter.write(f"{heading}:\n")
                for i in range(0, len(cells), 2):
                    formatter.write(f"{cells[i]:<{CELL}}{''.join(cells[i + 1 : i + 2])}".rstrip() + "\n")
        options = (p.get_help_record(ctx) for p in self.get_params(ctx) if "completion" not in str(p.name))
        with formatter.section("Options"):
            formatter.write_dl([record for record in options if record is not None])
