"""diffusers' solvers on Stable Diffusion's schedule, by the field's names."""

from typing import Any

from src.model.diffusion import T

# DDIM is the first-order DPM-Solver (Lu et al. 2022a, 4.1): that class takes steps of any grid, DDIMScheduler those of T / steps.
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "ddim": ("DPMSolverMultistepScheduler", {"solver_order": 1}),
    "euler": ("EulerDiscreteScheduler", {}),
}
# Table 1 uses VP sigmas, Table 2 Karras sigmas.
SIGMAS: dict[str, dict[str, Any]] = {"vp": {"timestep_spacing": "linspace"}, "karras": {"use_karras_sigmas": True}}
FINALS = ("zero", "sigma_min")


def solver_of(name: str, sigmas: str, steps: int, final: str = "zero", prediction: str = "epsilon") -> Any:
    """diffusers' scheduler for a network that predicts `epsilon` or `v`, with its steps set. ValueError for what is unknown.

    final: where the last step ends: `zero` (the paper; a first-order step), or `sigma_min`, with the solver's own order to the end.
    """
    import diffusers

    for key, value, known in (("solver", name, SOLVERS), ("sigmas", sigmas, SIGMAS), ("final", final, FINALS)):
        if value not in known:
            raise ValueError(f"sampler.{key} is {value!r}; it must be one of {', '.join(known)}.")
    if steps < 1:
        raise ValueError(f"sampler.steps is {steps}; it must be at least 1.")
    kind, options = SOLVERS[name]
    if kind == "DPMSolverMultistepScheduler":
        options = options | {"lower_order_final": final == "zero"}
    solver = getattr(diffusers, kind)(
        num_train_timesteps=T,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[prediction],
        final_sigmas_type=final,
        **SIGMAS[sigmas],
        **options,
    )
    solver.set_timesteps(steps)
    return solver


def is_stochastic(name: str) -> bool:
    """Whether a solver adds noise at each step."""
    return name.endswith("_sde")
