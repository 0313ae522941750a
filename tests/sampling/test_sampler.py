"""The sampler loop on networks with known answers, and one drawing, one seed."""

import threading

import pytest
import torch

from src.backbone.parts import fingerprint
from src.config import ROOT, compose, plain
from src.model.attention import Call
from src.model.colorizer import Colorizer, load_colorizer
from src.sampling.sampler import generators, is_noised, noise, sample
from src.sampling.solvers import SOLVERS, solver_of
from src.sampling.style import Style

NETWORK = plain(compose().backbone.unet)
BLOCKS = ["down.0", "down.1", "down.2", "middle", "up.0", "up.1", "up.2"]
DEMO = ROOT / "backbone/demo"
SMALL = {"latent_channels": 4, "factor": 4}


class PointMass(torch.nn.Module):
    """The exact noise prediction when all data is one latent: the sampler must land on it."""

    kind, prediction = "attention", "epsilon"

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self.target, self.calls = torch.nn.Parameter(target), []
        self.alphas = solver_of("dpmpp_2m", "vp", 20).alphas_cumprod

    def used(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def reference(self, tokens: torch.Tensor, strength: float) -> list[torch.Tensor]:
        return [tokens]

    def features(self, sketch: torch.Tensor, control_scale: float) -> list[torch.Tensor]:
        return [sketch]

    def forward(self, z: torch.Tensor, t: torch.Tensor, tokens: None, features: list[torch.Tensor], call: Call) -> torch.Tensor:
        z = torch.cat([z, z[: call.absent]])
        self.calls.append(len(z))
        a = torch.lerp(self.alphas[int(t)], self.alphas[min(int(t) + 1, 999)], float(t) % 1)
        return (z - a.sqrt() * self.target) / (1 - a).sqrt()


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    """Random weights, with a sketch encoder that does something."""
    torch.manual_seed(0)
    network = Colorizer(NETWORK, "attention").eval()
    for output in (network.sketch_encoder.first, *network.sketch_encoder.outputs):
        torch.nn.init.normal_(output.weight, std=0.05)
    return network


def inputs(count: int, height: int = 64, width: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    sketch = (torch.rand(count, 1, height, width, generator=generator) > 0.8).float() * 2 - 1
    return sketch.expand(-1, 3, -1, -1), torch.randn(count, 65, 128, generator=generator)


@pytest.mark.parametrize("sigmas", ["vp", "karras"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_point_mass_is_reached(solver: str, sigmas: str) -> None:
    target = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    model = PointMass(target)
    out = sample(model, torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 4), [1, 2], **SMALL, solver=solver, sigmas=sigmas)
    assert (out - target).abs().max() < 0.05
    assert model.calls == [2] * 20


def test_a_network_that_predicts_v_lands_there_as_well() -> None:
    class PredictsV(PointMass):
        prediction = "v"

        def forward(self, z: torch.Tensor, t: torch.Tensor, tokens: None, features: list[torch.Tensor], call: Call) -> torch.Tensor:
            a = self.alphas[int(t)]
            return a.sqrt() * super().forward(z, t, tokens, features, call) - (1 - a).sqrt() * self.target

    target, clean = torch.randn(1, 4, 8, 8), []
    options = {**SMALL, "progress": lambda _, estimate: clean.append(estimate)}
    out = sample(PredictsV(target), torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [1], **options)
    assert (out - target).abs().max() < 0.05 and all((estimate - target).abs().max() < 0.05 for estimate in clean)


@pytest.mark.parametrize(("gs", "sgs", "passes"), [(1, 1, 1), (3, 1, 2), (1, 3, 2), (3, 3, 3)])
def test_passes_are_one_batch(gs: float, sgs: float, passes: int) -> None:
    model = PointMass(torch.zeros(1, 4, 8, 8))
    sample(model, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], **SMALL, steps=3, gs=gs, sgs=sgs)
    assert model.calls == [passes] * 3


def test_guidance_is_active_between_two_shares_of_the_steps() -> None:
    model = PointMass(torch.zeros(1, 4, 8, 8))
    sample(model, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], **SMALL, steps=10, gs=3, guidance=(0.2, 0.5))
    assert model.calls == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]


def test_a_start_is_returned_to_through_its_last_steps() -> None:
    start, model, seen = torch.randn(2, 4, 8, 8), PointMass(torch.zeros(1, 4, 8, 8)), []
    options = {**SMALL, "steps": 10, "start": start, "progress": lambda step, clean: seen.append((step, clean.shape))}
    out = sample(model, torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 4), [0, 1], start_strength=0.3, **options)
    assert len(model.calls) == 3 and [step for step, _ in seen] == [1, 2, 3] and seen[0][1] == start.shape
    assert out.abs().max() < 0.05  # the model knows zeros and nothing else
    model = PointMass(start[:1])
    near = sample(
        model, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], **{**options, "start": start[:1]}, start_strength=0.1
    )
    assert (near - start[:1]).abs().max() < 0.01


def test_an_exception_of_progress_ends_the_sampling() -> None:
    def stop(step: int, clean: torch.Tensor) -> None:
        if step == 2:
            raise KeyboardInterrupt

    model = PointMass(torch.zeros(1, 4, 8, 8))
    with pytest.raises(KeyboardInterrupt):
        sample(model, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4), [0], **SMALL, progress=stop)
    assert len(model.calls) == 2


@pytest.fixture(scope="module", params=["noisy", "cls"])
def shipped(request: pytest.FixtureRequest) -> Colorizer:
    return load_colorizer(DEMO / request.param / "model", fingerprint({"directory": DEMO}))[0]


@pytest.mark.parametrize("options", [{}, {"solver": "dpmpp_2m_sde", "noise_level": 0.5}, {"style": True}])
def test_a_drawing_does_not_depend_on_its_batch(shipped: Colorizer, options: dict) -> None:
    if shipped.kind == "cls":
        options = options | {"noise_level": 0.0}
    sketch, tokens = inputs(3)
    latent = torch.randn(3, 4, 16, 16)

    def run(rows: slice, seeds: list[int]) -> torch.Tensor:
        chain = options | {"style": Style(latent[rows], sketch[rows], True, ["middle"])} if "style" in options else options
        return sample(shipped, sketch[rows], tokens[rows], seeds, **SMALL, steps=6, gs=2.0, sgs=1.5, **chain)

    together, alone = run(slice(None), [5, 6, 7]), run(slice(1, 2), [6])
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    assert torch.equal(alone, run(slice(1, 2), [6]))  # the same seed, the same bytes
    assert not torch.allclose(alone, run(slice(1, 2), [8]), atol=0.1)
    assert torch.equal(noise(generators([6]), (4, 2, 2))[0], noise(generators([5, 6]), (4, 2, 2))[1])


@pytest.mark.parametrize("kind", ["attention", "cls"])
@torch.no_grad()
def test_a_call_is_the_passes_one_by_one(kind: str) -> None:
    """Kept keys and values, and one batch whose passes share what is equal, against plain forwards with all inputs."""
    torch.manual_seed(1)
    network = Colorizer(NETWORK, kind).eval()
    for output in (network.sketch_encoder.first, *network.sketch_encoder.outputs):
        torch.nn.init.normal_(output.weight, std=0.05)
    sketch, tokens = inputs(2)
    tokens, z, t = network.used(tokens), torch.randn(2, 4, 16, 16), torch.tensor([300])
    lines, empty = network.features(sketch), network.features(torch.full_like(sketch, -1))
    both = [torch.cat(pair) for pair in zip(lines, empty, strict=True)]
    out = network(torch.cat([z, z]), t, None, both, call=Call(network.reference(tokens), absent=2))
    for got, features, seen in zip(out.chunk(3), (lines, empty, lines), (tokens, tokens, torch.zeros_like(tokens)), strict=True):
        assert torch.allclose(got, network(z, t.expand(2), seen, features), atol=1e-5)


@torch.no_grad()
def test_strength_goes_from_zero_tokens_to_the_reference(colorizer: Colorizer) -> None:
    sketch, tokens = inputs(1)
    used, z, t = colorizer.used(tokens), torch.randn(1, 4, 16, 16), torch.tensor([300])

    def at(strength: float | list[float]) -> torch.Tensor:
        return colorizer(z, t, None, colorizer.features(sketch), call=Call(colorizer.reference(used, strength)))

    zero = colorizer(z, t, torch.zeros_like(used), colorizer.features(sketch))
    assert torch.allclose(at(0), zero, atol=1e-5) and torch.allclose(at([0, 0, 0, 0]), zero, atol=1e-5)
    assert torch.equal(at(1), at([1, 1, 1, 1])) and not torch.allclose(at(1), zero, atol=1e-4)
    levels = [at([1.0 if i == level else 0.0 for i in range(4)]) for level in range(4)]
    moved = [not torch.allclose(one, zero, atol=1e-5) for one in levels]
    assert moved == [False, True, False, True]  # the demo has attention at its second level and in the middle
    with pytest.raises(ValueError, match="2 numbers; the U-Net has 3 levels and the middle: 4"):
        at([1, 1])


@torch.no_grad()
def test_a_control_scale_scales_the_sketchs_features_and_no_others(colorizer: Colorizer, monkeypatch: pytest.MonkeyPatch) -> None:
    sketch, tokens = inputs(1)
    own, latent = colorizer.features(sketch), torch.randn(1, 4, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(colorizer.features(sketch, 1), own, strict=True))
    assert all(torch.allclose(a, 2.5 * b) for a, b in zip(colorizer.features(sketch, 2.5), own, strict=True))

    asked: list[tuple[bool, bool, float]] = []  # an empty sketch, the chain's, how much

    def features(given: torch.Tensor, control_scale: float = 1.0) -> list[torch.Tensor]:
        asked.append((bool((given == -1).all()), bool((given == 0.5).all()), control_scale))
        return Colorizer.features(colorizer, given, control_scale)

    monkeypatch.setattr(colorizer, "features", features)
    style = Style(latent, torch.full_like(sketch, 0.5), True)
    sample(colorizer, sketch, tokens, [0], **SMALL, steps=2, sgs=2.0, control_scale=2.5, style=style)
    assert sorted(asked) == [(False, False, 2.5), (False, True, 1.0), (True, False, 2.5)]

    def at(control_scale: float, lines: torch.Tensor = sketch) -> torch.Tensor:
        return sample(colorizer, lines, tokens, [0], **SMALL, steps=2, gs=2.0, control_scale=control_scale)

    assert torch.equal(at(0), at(0, -sketch)) and not torch.allclose(at(1), at(1, -sketch), atol=1e-3)
    assert not torch.allclose(at(1), at(2), atol=1e-3)


@torch.no_grad()
def test_attention_injection_is_attention_to_both(colorizer: Colorizer) -> None:
    """Against the formula, layer by layer: K and V of [own, chain], written out with the layers' own projections."""
    attention = colorizer.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    h = torch.randn(4, 9, 144)  # a drawing, its empty sketch, the chain, and without reference
    call = Call([], absent=1, chain=1, injection=True, fidelity=0.25)
    out = attention(h, call=call)

    def plainly(query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        q, k, v = attention.to_q(query), attention.to_k(context), attention.to_v(context)
        q, k, v = (x.view(len(x), attention.heads, -1) for x in (q, k, v))
        weights = (torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5).softmax(-1)
        return attention.to_out[0](torch.einsum("hqk,khd->qhd", weights, v).flatten(1))

    injected = [plainly(h[i], torch.cat([h[i], h[2]])) for i in (0, 1, 3)]
    assert torch.allclose(out[0], injected[0], atol=1e-5) and torch.allclose(out[1], injected[1], atol=1e-5)
    assert torch.allclose(out[2], plainly(h[2], h[2]), atol=1e-5)
    assert torch.allclose(out[3], 0.25 * plainly(h[3], h[3]) + 0.75 * injected[2], atol=1e-5)


def test_a_chain_of_the_drawing_itself_changes_nothing_through_adain(colorizer: Colorizer) -> None:
    """Same latent, sketch, tokens and noise: every block's statistics are the drawing's own."""
    sketch, tokens = inputs(1)
    z, t, features = torch.randn(1, 4, 16, 16), torch.tensor([300]), colorizer.features(sketch)
    double = [torch.cat([f, f]) for f in features]
    with torch.no_grad():
        call = Call(colorizer.reference(colorizer.used(tokens)), chain=1, adain=frozenset(BLOCKS))
        out = colorizer(torch.cat([z, z]), t, None, double, call=call)
        assert torch.allclose(out[:1], colorizer(z, t, colorizer.used(tokens), features), atol=1e-4)
        other = colorizer(torch.cat([z, z + 1]), t, None, double, call=call)
    assert not torch.allclose(other[:1], out[:1], atol=1e-3)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_takes_the_style(colorizer: Colorizer, name: str) -> None:
    sketch, tokens = inputs(1)
    latent = 2 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) + 1
    options = {**SMALL, "steps": 2, "gs": 2.0}
    usual = sample(colorizer, sketch, tokens, [3], **options)
    styled = sample(colorizer, sketch, tokens, [3], **options, style=Style(latent, sketch, False, [name]))
    late = sample(colorizer, sketch, tokens, [3], **options, style=Style(latent, sketch, False, [name], begin=1.0))
    assert not torch.allclose(styled, usual, atol=1e-3) and torch.equal(late, usual)


def test_the_final_latent_takes_the_references_statistics(colorizer: Colorizer) -> None:
    sketch, tokens = inputs(2)
    latent = 2 * torch.randn(2, 4, 16, 16) + 1
    out = sample(colorizer, sketch, tokens, [1, 2], **SMALL, steps=2, style=Style(latent, sketch, False, ["final"]))
    assert torch.allclose(out.mean((2, 3)), latent.mean((2, 3)), atol=1e-4)
    assert torch.allclose(out.std((2, 3)), latent.std((2, 3)), atol=1e-3)


def test_threads_share_a_network(colorizer: Colorizer) -> None:
    """Style, guidance and noise of one call are nothing to another."""
    sketch, tokens = inputs(1)
    style = Style(torch.randn(1, 4, 16, 16), sketch, True, ["middle"])
    kinds = [{"style": style, "gs": 2.0}, {"gs": 3.0, "sgs": 2.0}, {}]

    def run(options: dict) -> torch.Tensor:
        return sample(colorizer, sketch, tokens, [3], **SMALL, steps=4, **options)

    alone, found = [run(options) for options in kinds], {}

    def work(i: int) -> None:
        found[i] = run(kinds[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.allclose(found[i], alone[i], atol=1e-5) for i in range(3))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 112), (48, 80)])
def test_any_size_that_the_network_halves(colorizer: Colorizer, height: int, width: int) -> None:
    sketch, tokens = inputs(1, height, width)
    out = sample(colorizer, sketch, tokens, [0], **SMALL, steps=2, gs=2.0)
    assert out.shape == (1, 4, height // 4, width // 4) and out.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_is_near(colorizer: Colorizer, dtype: torch.dtype) -> None:
    from src.sampling.batch import replica

    sketch, tokens = inputs(1)
    half = replica(colorizer, torch.device("cpu"), "bf16")
    assert next(half.parameters()).dtype == dtype and next(colorizer.parameters()).dtype == torch.float32
    options = {**SMALL, "steps": 3, "gs": 2.0}
    a, b = (sample(network, sketch, tokens, [3], **options) for network in (colorizer, half))
    assert b.dtype == torch.float32 and (a - b).abs().max() < 0.1 * a.abs().max()


@pytest.mark.parametrize(("level", "noised"), [(0, []), (0.3, [0, 1, 2]), (1, list(range(10)))])
def test_noisy_sampling_noises_the_first_steps(level: float, noised: list[int]) -> None:
    assert [step for step in range(10) if is_noised(step, 10, level)] == noised


def test_noisy_sampling_adds_the_latents_noise_to_tokens_that_are_there() -> None:
    seen: list[torch.Tensor] = []

    class Watched(PointMass):
        def forward(self, z: torch.Tensor, t: torch.Tensor, tokens: None, features: list[torch.Tensor], call: Call) -> torch.Tensor:
            seen.append(call.reference[0])
            return super().forward(z, t, tokens, features, call)

    tokens = torch.cat([torch.full((1, 400, 8), 3.0), torch.zeros(1, 400, 8)])
    sketch = torch.zeros(2, 3, 32, 32)
    sample(Watched(torch.zeros(1, 4, 8, 8)), sketch, tokens, [0, 1], **SMALL, steps=5, gs=3.0, noise_level=0.5)
    sigmas = solver_of("dpmpp_2m", "vp", 5).sigmas
    for step, reference in enumerate(seen):
        alpha = float(1 / (1 + sigmas[step] ** 2) ** 0.5) if step < 3 else 1.0
        beta = float(sigmas[step]) * alpha if step < 3 else 0.0
        assert reference[0].mean().item() == pytest.approx(3 * alpha, abs=0.06)
        assert reference[0].std().item() == pytest.approx(beta, abs=0.05)
        assert not reference[1].any()  # a reference of zeros
    assert not torch.equal(seen[0][0], seen[1][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_level": 2}, "must be 0 to 1"),
        ({"guidance": (0.5, 0.2)}, "0 <= start <= end <= 1"),
        ({"sketch_negative": "none"}, "must be one of empty, zero_features"),
        ({"start_strength": 0}, "above 0"),
        ({"sigmas": "cosine"}, "must be one of vp, karras"),
        ({"solver": "heun"}, "must be one of dpmpp_2m, dpmpp_2m_sde, ddim, euler"),
        ({"final": "one"}, "must be one of zero, sigma_min"),
        ({"steps": 0}, "must be at least 1"),
        (
            {"style": Style(torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 64, 64), adain=["down.7"])},
            "style.adain has down.7; the blocks",
        ),
        ({"style": Style(torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 64, 64), fidelity=2)}, "style.fidelity is 2"),
    ],
)
def test_values_that_cannot_be(colorizer: Colorizer, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(colorizer, *inputs(1), [0], **SMALL, **options)


def test_a_cls_model_has_no_tokens_to_noise() -> None:
    with pytest.raises(ValueError, match="CLS models have none"):
        sample(Colorizer(NETWORK, "cls"), *inputs(1), [0], **SMALL, noise_level=0.5)
