"""What a data set of a size needs: `python -m benchmarks.plan [drawings=4000000] [triples=17.7] ...`, any field of `Rates`.

Prints hours by the number of cores and GPUs, terabytes and cost. Sizes of features are exact; rates are measured where the comments
say so and have to be given for other machines; prices are assumptions.
"""

import sys
from dataclasses import dataclass, fields

import numpy as np

from src.data.images import array_bytes
from src.data.tokens import encode_tokens


@dataclass(frozen=True)
class Rates:
    drawings: float = 4_000_000
    triples: float = 17.7  # a core second: benchmarks/triples, tar files included, two workers on two cores
    color_kb: float = 103  # a drawing at 512 px: the mean of Danbooru2021's 512px subset (0.39 TB, 3,789,092 JPEG files)
    reference_kb: float = 103  # as its drawing
    sketch_kb: float = 16  # png of XDoG lines, OpenMoji at 512 px
    tflop: float = 1.45  # of one drawing's VAE encoding (1.12) and ViT-H/14 tokens (0.33), counted; tokens_deform come on top
    gpu_tflops: float = 100  # what a GPU does of them a second: assumed, about a tenth of an H100's peak
    batch_rate: float = 290  # drawings a core second of cached features, benchmarks/loader
    step_rate: float = 20  # drawings a second and GPU in training: assumed, see benchmarks/train_step
    gpus: float = 4
    epochs: float = 5
    core_hour: float = 0.04  # dollars, like the two below: assumed
    gpu_hour: float = 2.5
    terabyte_month: float = 23


def member(data: bytes) -> int:
    """Bytes that a file takes in a tar archive."""
    return 512 + -(-len(data) // 512) * 512


def feature_bytes(bits: int = 16) -> tuple[int, int]:
    """Bytes of a drawing's latent (mean and std) and of one set of tokens at the paper's size, in their shards."""
    latent = 2 * member(array_bytes(np.zeros((4, 64, 64), np.float16)))
    return latent, sum(member(data) for data in encode_tokens(np.zeros((257, 1024), np.float16), bits).values())


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("-" * w for w in widths) + " |", *lines[1:]])


def plan(rates: Rates) -> str:
    n = rates.drawings
    core_hours = n / rates.triples / 3600
    gpu_hours = n * (rates.tflop + 0.33) / rates.gpu_tflops / 3600  # tokens of the reference as well
    train_hours = n * rates.epochs / rates.step_rate / rates.gpus / 3600
    latent, tokens = feature_bytes()
    _, small = feature_bytes(8)
    kb = {"color": rates.color_kb, "reference": rates.reference_kb, "sketch": rates.sketch_kb}
    sizes = {name: value * 1e3 for name, value in kb.items()} | {"latent": latent, "tokens": tokens, "tokens_deform": tokens}
    total, total8 = (n * sum((sizes | {"tokens": t, "tokens_deform": t}).values()) / 1e12 for t in (tokens, small))
    hours = [("cores", "triples, hours"), *((str(c), f"{core_hours / c:,.1f}") for c in (16, 64, 256, 1024))]
    gpus = [("GPUs", "latents and tokens, hours"), *((str(g), f"{gpu_hours / g:,.1f}") for g in (1, 4, 16, 64))]
    stored = [
        ("column", "bytes a drawing", "TB"),
        *((name, f"{size:,.0f}", f"{n * size / 1e12:.2f}") for name, size in sizes.items()),
        ("tokens, each of the two, 8 bits", f"{small:,}", f"{n * small / 1e12:.2f}"),
        ("all", "", f"{total:.2f}"),
        ("all, tokens of 8 bits", "", f"{total8:.2f}"),
    ]
    cost = [
        ("what", "amount", "dollars"),
        ("triples", f"{core_hours:,.0f} core hours", f"{core_hours * rates.core_hour:,.0f}"),
        ("latents and tokens", f"{gpu_hours:,.0f} GPU hours", f"{gpu_hours * rates.gpu_hour:,.0f}"),
        ("storage, 8-bit tokens, a month", f"{total8:.1f} TB", f"{total8 * rates.terabyte_month:,.0f}"),
        ("training", f"{train_hours * rates.gpus:,.0f} GPU hours", f"{train_hours * rates.gpus * rates.gpu_hour:,.0f}"),
    ]
    feeding = rates.step_rate * rates.gpus / rates.batch_rate
    read = rates.step_rate * rates.gpus * (latent + small + sizes["sketch"]) / 1e6
    end = (
        f"Training: {train_hours:,.0f} hours on {rates.gpus:.0f} GPUs; cached features for it take {feeding:.1f} cores "
        f"and {read:,.0f} MB/s."
    )
    return "\n\n".join([table(hours), table(gpus), table(stored), table(cost), end])


def main(arguments: list[str]) -> None:
    known = {field.name for field in fields(Rates)}
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := sorted(given.keys() - known):
        sys.exit(f"error: there is no {unknown[0]}; there are: {', '.join(sorted(known))}.")
    print(plan(Rates(**{name: float(value) for name, value in given.items()})))


if __name__ == "__main__":
    main(sys.argv[1:])
