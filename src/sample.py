"""Colours sketches: `python -m src.sample sketch=a.png reference=b.png output=c.png` (docs/sampling.md)."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from src.config import CONF, plain
from src.entry import quoted, reported
from src.files import UserError
from src.pairs import pictures
from src.recipe import is_made, recipe, repeated

PATHS = ("checkpoint", "sketch", "reference", "pairs", "output", "from_png", "start")
PATHS_OR_LISTS = ("edits",)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sample")
@reported
def main(config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    # As they were typed: an item of the list would come with its escaped `${` unescaped, ready to be evaluated.
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    colorize(plain(config) if config.from_png is None else repeated(Path(config.from_png), overrides))


def colorize(settings: Mapping[str, Any]) -> None:
    """Makes every picture that the configuration (`conf/sample.yaml`, as a plain dictionary) asks for.

    A picture that is there already, by the same recipe, is not made again. One of several whose files cannot be read is reported
    and left out. UserError, in the end if some were left out, else at once.
    """
    from src.picture import Drawing, finish, load, prepare

    settings = {**settings, "edits": _listed(settings["edits"])}
    wanted = pictures(settings)
    model = load(settings)
    failed = 0
    waiting: dict[str, list[Drawing]] = {}
    for one in wanted:
        try:
            drawing = prepare(one, model)
        except UserError as error:
            if len(wanted) == 1:
                raise
            failed += 1
            print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        if is_made(Path(one["output"]), recipe(drawing.settings, drawing.sha256, 1)):
            print(f"{one['output']} is there already", flush=True)
            continue
        batch = waiting.setdefault(drawing.group, [])
        batch.append(drawing)
        if len(batch) == settings["batch"]:
            finish(waiting.pop(drawing.group), model)
    for batch in waiting.values():
        finish(batch, model)
    if failed:
        raise UserError(f"{failed} of {len(wanted)} pairs failed.")


def _listed(edits: Any) -> Any:
    """The edits of a YAML file, if it is the path of one."""
    import yaml

    if not isinstance(edits, str):
        return edits
    try:
        return yaml.safe_load(Path(edits).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{edits} cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{edits} is no YAML ({' '.join(str(error).split())}).") from None


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], PATHS, PATHS_OR_LISTS)
    main()
