"""Which pictures to make: one pair, the rows of a CSV file, or the files of folders."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.files import UserError
from src.recipe import INPUTS, PATH, check

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
# What a CSV file may say of each picture, beside its sketch, reference and output.
COLUMNS = (
    "seed",
    "size",
    "clean",
    "gs",
    "sgs",
    "noise_level",
    "strength",
    "sketch_negative",
    "control_scale",
    "start",
    "start_strength",
)

Row = dict[str, Any]


def pictures(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of each picture, with its own sketch, reference and output.

    `pairs` is a CSV file, or a folder with the folders `sketch` and `reference`; otherwise `sketch` and `reference` are files or
    folders. Several pictures go into the folder `output`. UserError for a list that cannot be meant as it is: one with a wrong
    value, two pictures of one name, or a picture outside the folder or in place of what one is made from.
    """
    rows = _rows(settings)
    if settings["output"] is None:
        raise UserError("Say output=<path>: a PNG file, or for several pairs a folder.")
    if rows is None:
        made = [("", dict(settings))]
    else:
        folder = Path(settings["output"])
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; the pictures of several pairs need a folder: give another output=.")
        made = [(f"{place}: ", {**settings, **row, "output": str(folder / row["output"])}) for place, row in rows]
    for where, one in made:
        check(one, where)
        _check_name(one["output"], where)
    inputs = {Path(one[key]).resolve() for _, one in made for key in INPUTS if one[key] is not None}
    taken: dict[Path, str] = {}
    for where, one in made:
        target = Path(one["output"]).resolve()
        if rows is not None and not target.is_relative_to(folder.resolve()):
            raise UserError(
                f"{where}{one['output']} lies outside {folder}, where all pictures of a list go: give a name within it."
            )
        if target in taken:
            raise UserError(f"{where}{one['output']} is the output of {taken[target]}, too: give each picture a name of its own.")
        if target in inputs:
            raise UserError(f"{where}{one['output']} is what a picture is made from: give another output=.")
        taken[target] = where.removesuffix(": ")
    return [one for _, one in made]


def _check_name(output: str, where: str) -> None:
    if not PATH[0](output) or Path(output).suffix.lower() != ".png":
        raise UserError(f"{where}{output!r} is no name of a PNG file, which pictures are: end it in .png.")


def _rows(settings: Mapping[str, Any]) -> list[tuple[str, Row]] | None:
    """What is special of each picture, after the place that says so; None for a single one."""
    pairs, sketch, reference = settings["pairs"], settings["sketch"], settings["reference"]
    if pairs is not None:
        if sketch is not None or reference is not None:
            raise UserError("Give either pairs=, or sketch= and reference=, but not both.")
        path = Path(pairs)
        rows = list(_folders(path / "sketch", path / "reference") if path.is_dir() else _csv(path))
    else:
        if missing := [key for key in ("sketch", "reference") if settings[key] is None]:
            raise UserError(f"Say {' and '.join(f'{key}=<path>' for key in missing)}, or pairs=<path>.")
        path = Path(sketch)
        if not path.is_dir():
            if Path(reference).is_dir():
                raise UserError(f"{reference} is a folder and {sketch} is none: give one reference, or a folder of sketches.")
            return None
        rows = list(_folders(path, Path(reference)))
    if not rows:
        raise UserError(f"{path} has no pairs.")
    return rows


def _folders(sketches: Path, references: Path) -> Iterator[tuple[str, Row]]:
    """Each picture of `sketches`, by name, with that of the same stem in `references`, or with `references` if it is a file."""
    for folder in (sketches, references):
        if not folder.exists():
            raise UserError(f"There is no {folder}.")
    by_stem: dict[str, Path] = {}
    for path in _images(references) if references.is_dir() else ():
        if path.stem in by_stem:
            raise UserError(f"{path} and {by_stem[path.stem].name} have one stem: leave one reference for each sketch.")
        by_stem[path.stem] = path
    for path in _images(sketches):
        if references.is_dir() and path.stem not in by_stem:
            raise UserError(f"{path} has no reference: there is no {references / path.stem} with any suffix of a picture.")
        yield str(path), {"sketch": str(path), "reference": str(by_stem.get(path.stem, references)), "output": f"{path.stem}.png"}


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES and not path.name.startswith("."))


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    """Its rows. Paths are relative to its folder; an empty cell is the default."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = reader.fieldnames or []
            if missing := [name for name in ("sketch", "reference") if name not in columns]:
                raise UserError(
                    f"{path} has no column {' and '.join(missing)}: begin it with a line such as sketch,reference,seed."
                )
            known = ("sketch", "reference", "output", *COLUMNS)
            if unknown := [name for name in columns if name not in known]:
                raise UserError(f"{path} has a column {unknown[0]!r}; it may have {', '.join(known)}.")
            for cells in reader:
                yield _csv_row(path, reader.line_num, cells)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8 ({error}).") from None


def _csv_row(path: Path, line: int, cells: dict[Any, Any]) -> tuple[str, Row]:
    place = f"{path}, line {line}"
    if None in cells or None in cells.values():
        raise UserError(f"{place}: it has another number of cells than the first line: put a cell with a comma in double quotes.")
    row: Row = {name: text if name in {*INPUTS, "output"} else _value(text) for name, text in cells.items() if text}
    for key in ("sketch", "reference"):
        if key not in row:
            raise UserError(f"{place}: it has no {key}.")
    row["output"] = row.get("output") or f"{Path(row['sketch']).stem}.png"
    return place, row | {key: str(path.parent / row[key]) for key in INPUTS if key in row}


def _value(text: str) -> Any:
    """A cell as a number or switch where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)
