"""The name of a run, in the paper's spelling (Table 1), derived from its configuration and never typed."""

from collections.abc import Mapping
from typing import Any

DEFAULT_LAMBDA = 4.0
BASES = {"shuffle": "Shuffle", "deform": "Deform", "cls": "CLS"}


def run_name(config: Mapping[str, Any], changed: Mapping[str, Any] | None = None) -> str:
    """E.g. `Deform-0.75`, `Noisy-0 (7 epochs)`, `Deform-Noisy-Dual-0 (lambda 2)`. Different configurations have different names.

    Reads model.name, model.epochs, drop, noisy, dual, epochs and seed; `changed` are the other values that differ from the
    groups' own, by their dotted keys: `Shuffle-0 (scale.batch 8)`.
    """
    base = BASES[config["model"]["name"]]
    scheme = "-".join(word for word, on in (("Noisy", config["noisy"]), ("Dual", config["dual"])) if on)
    if scheme:
        base = scheme if base == "Shuffle" else f"{base}-{scheme}"
    name = f"{base}-{float(config['drop']):.12g}"
    if config["dual"] and config["dual"] != DEFAULT_LAMBDA:
        name += f" (lambda {float(config['dual']):.12g})"
    if config["epochs"] != config["model"]["epochs"]:
        name += f" ({config['epochs']} epochs)"
    if config["seed"]:
        name += f" (seed {config['seed']})"
    if changed:
        name += f" ({', '.join(f'{key} {value}' for key, value in sorted(changed.items()))})".replace("/", "_")
    return name
