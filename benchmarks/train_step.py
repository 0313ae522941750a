"""Images a second of one training step: a plain loop in the style of the published training code, and ours.

Plain: VAE and CLIP run on every batch, gradient checkpointing, fp16 autocast with a scaler (float32 on a CPU), eager, AdamW.
Ours: cached latents and tokens, channels last, bf16, `torch.compile`, fused AdamW; with and without gradient checkpointing.
With a GPU at the paper's size (512 px, random weights), also at the largest batch that fits; else at the demo's.
`python -m benchmarks.train_step [batch ...]`.
"""

import contextlib
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from src.backbone.parts import to_input
from src.config import compose, plain
from src.model.colorizer import Colorizer
from src.model.training import Training
from src.model.watch import forward_flops, peak_flops

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CONFIG = compose(["backbone=sd21", "scale=paper"] if CUDA else ["scale=demo"])
NETWORK = plain(CONFIG.backbone.unet)
SIZE = CONFIG.backbone.size
SCHEME = {"shuffled": True, "noisy": False, "drop_rate": 0.0, "dual": 0}


def frozen() -> tuple[Any, Any]:
    """VAE and CLIP of the size in question with random weights, in half precision on a GPU."""
    if CUDA:
        import open_clip

        from src.backbone.pretrained import SD_VAE, LatentVAE

        with DEVICE:
            vae = LatentVAE(**SD_VAE).half()
            clip = open_clip.create_model("ViT-H-14", pretrained=None, precision="fp16", device=DEVICE)
    else:
        from src.backbone.parts import load_backbone

        backbone = load_backbone(CONFIG.backbone)
        vae, clip = backbone.vae, backbone.clip
    return vae.eval().requires_grad_(False), clip.eval().requires_grad_(False)


def training() -> Training:
    """Our module with random weights."""
    torch.manual_seed(0)
    with DEVICE:
        colorizer = Colorizer(NETWORK, "attention").to(DEVICE, memory_format=torch.channels_last)
    return Training(colorizer, SCHEME, plain(CONFIG.scale.loss), plain(CONFIG.scale.optimizer), 0).to(DEVICE)


def images(batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(DEVICE)

    return {"color": random(batch, SIZE, SIZE, 3), "sketch": random(batch, SIZE, SIZE)}


def features(batch: int) -> dict[str, Tensor]:
    side, channels = NETWORK["latent_size"], NETWORK["latent_channels"]
    tokens = 257 if CUDA else 65
    return {
        "mean": torch.randn(batch, channels, side, side, device=DEVICE),
        "std": torch.rand(batch, channels, side, side, device=DEVICE),
        "tokens": torch.randn(batch, tokens, NETWORK["context_width"], device=DEVICE),
        "sketch": images(batch)["sketch"],
    }


def plain_loop(batch: int) -> Callable[[], None]:
    """A step as published: everything on the fly, eager, in contiguous layout."""
    from src.backbone.clip import image_tokens

    vae, clip = frozen()
    module = training()
    module.colorizer.to(memory_format=torch.contiguous_format)
    unet: Any = module.colorizer.unet
    unet.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(module.colorizer.parameters(), 1e-5, weight_decay=0.1)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=CUDA)
    data, generator = images(batch), torch.Generator(DEVICE).manual_seed(0)

    def step() -> None:
        with torch.no_grad():
            pixels = to_input(data["color"])
            half = pixels.half() if CUDA else pixels
            mean, std = vae.encode(half)
            found = {"mean": mean.float(), "std": std.float(), "tokens": image_tokens(clip, half).float()}
        with torch.autocast(DEVICE.type, torch.float16, enabled=CUDA):
            loss = module.losses(data | found, generator)[0].mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def ours(batch: int, checkpointing: bool) -> Callable[[], None]:
    """A step of `scale=paper` (on a GPU) or `scale=demo`, gradient norm included."""
    module = training()
    if checkpointing:
        unet: Any = module.colorizer.unet
        unet.enable_gradient_checkpointing()
    if CUDA:
        module.colorizer.compile()
    optimizer = torch.optim.AdamW(module.colorizer.parameters(), 1e-5, weight_decay=0.1, fused=CUDA)
    data, generator = features(batch), torch.Generator(DEVICE).manual_seed(0)

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=CUDA):
            loss = module.losses(data, generator)[0].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()

    return step


def images_per_second(make: Callable[[int], Callable[[], None]], batch: int, seconds: float = 8.0) -> float | None:
    """The rate over whole steps, after two to warm up; None where the memory does not hold the batch."""
    rate = None
    with contextlib.suppress(torch.cuda.OutOfMemoryError):
        rate = _rate(make(batch), batch, seconds)
    gc.collect()  # the model as well: only here no frame of a failed step holds it any more
    if CUDA:
        torch.cuda.empty_cache()
        torch._dynamo.reset()
    return rate


def _rate(step: Callable[[], None], batch: int, seconds: float) -> float:
    for _ in range(2):
        step()
    _wait()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        _wait()
        steps += 1
    return batch * steps / (time.perf_counter() - began)


def largest(fits: Callable[[int], bool], step: int = 1) -> int:
    """The largest multiple of `step` that fits, 0 if none does: doubled until one does not fit, then bisected."""
    low, high = 0, step
    while fits(high):
        low, high = high, 2 * high
    while high - low > step:
        middle = (low + high) // (2 * step) * step
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def best_rate(variant: str, make: Callable[[int], Callable[[], None]], batches: list[int], flops: float) -> float:
    """Prints the rate at each batch, on a GPU also at the largest that fits, and returns the highest."""
    # Every try compiles anew, so the search is as fine as is worth that.
    most = largest(lambda batch: images_per_second(make, batch, 0.0) is not None, 8) if CUDA else 0
    peak = peak_flops(torch.cuda.get_device_name()) if CUDA else None
    rates = [0.0]
    for batch in sorted({*batches, most} - {0}):
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        rate = images_per_second(make, batch)
        if rate is None:
            print(f"{variant:20} batch {batch:4}: out of memory", flush=True)
            continue
        mfu = f", MFU {3 * flops * rate / peak:.0%}" if peak else ""
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB" if CUDA else ""
        note = " (the largest that fits)" if batch == most else ""
        print(f"{variant:20} batch {batch:4}: {rate:7.2f} images/s{mfu}{memory}{note}", flush=True)
        rates.append(rate)
    return max(rates)


def main(arguments: list[str]) -> None:
    torch.set_float32_matmul_precision("high")
    batches = [int(a) for a in arguments] or ([10, 40] if CUDA else [16])
    flops = forward_flops(NETWORK, "attention", 256 if CUDA else 64)
    name = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; {SIZE} px, {3 * flops / 1e12:.3f} TFLOP an image")
    published = best_rate("plain loop", plain_loop, batches, flops)
    checkpointing = best_rate("ours, checkpointing", lambda batch: ours(batch, True), batches, flops)
    without = best_rate("ours", lambda batch: ours(batch, False), batches, flops)
    print(f"ours / plain loop: {max(checkpointing, without) / published:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
