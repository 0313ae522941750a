"""The paper's user study (Section 5.5, Figure 21) without its page: what is rated, by whom, and every answer in one SQLite file.

A study is a folder of pictures (`src.app.preparation` makes it) and a database. Volunteers are known by a random id alone. What an
answer is about is known by the hashes of its pictures: a database belongs to one set of items and takes no other's answers.
"""

import csv
import hashlib
import io
import json
import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from src.files import UserError, write_atomically, write_json

ITEMS = "items.json"
SCORES = range(1, 6)
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without what is read as something else: i, l, o, 0, 1
CSV_NOTHING = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for the beginning of a formula


@dataclass(frozen=True)
class Question:
    """One of the paper's four: what is asked, and what the lowest and the highest score mean."""

    name: str
    text: str
    lowest: str
    highest: str


QUESTIONS = (
    Question("Quality", "how good is the coloured picture?", "very bad", "very good"),
    Question("Similarity", "how well do its colours match those of the reference?", "not at all", "very well"),
    Question("Usability", "how easily could you use the coloured picture?", "only after repainting it", "as it is"),
    Question("Controllability", "how well does the changed picture do what the words ask?", "not at all", "fully"),
)
NAMES = tuple(question.name for question in QUESTIONS)
WITHOUT_EDIT = NAMES[:3]


@dataclass(frozen=True)
class Item:
    """One model's result of one pair. sketch, reference, result, edited: names of PNG files in the study's folder.

    edited: the result after a text edit whose `words` are shown; None and "" where the model has no text edits.
    """

    pair: str
    model: str
    sketch: str
    reference: str
    result: str
    edited: str | None = None
    words: str = ""

    @property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:16]

    @property
    def questions(self) -> tuple[str, ...]:
        return NAMES if self.edited else WITHOUT_EDIT


@dataclass(frozen=True)
class Study:
    """seed: of the orders in which volunteers see the items."""

    database: Path
    pictures: Path
    seed: int
    items: Mapping[str, Item]


@dataclass(frozen=True)
class Rating:
    """What one volunteer (by number, counted from 1) said of one item, or has said so far; time: of the last change, UTC."""

    participant: int
    item: Item
    scores: Mapping[str, int]
    time: str


def write_items(folder: Path, seed: int, items: Sequence[Item]) -> None:
    write_json(folder / ITEMS, {"seed": seed, "items": [asdict(item) for item in items]})


def read_items(folder: Path) -> tuple[int, list[Item]]:
    """The seed and the items of a folder. UserError where it has none, or names a file that is no picture of the folder."""
    path = folder / ITEMS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        seed, items = int(values["seed"]), [Item(**item) for item in values["items"]]
    except FileNotFoundError:
        raise UserError(
            f"There are no pictures to rate in {folder}: `dvc repro pipelines/rating/dvc.yaml:items` makes them."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): prepare the study again.") from None
    for name in (n for item in items for n in (item.sketch, item.reference, item.result, item.edited) if n is not None):
        if not re.fullmatch(r"[0-9a-f]{32}\.png", name) or not (folder / name).is_file():
            raise UserError(f"{path} names {name!r}, which is no picture in {folder}: prepare the study again.")
    return seed, items


def keep_picture(folder: Path, png: bytes) -> str:
    """Writes a PNG file under a name that says what is in it, and not which model made it -> that name."""
    name = f"{hashlib.sha256(png).hexdigest()[:32]}.png"
    write_atomically(folder / name, lambda f: f.write(png))
    return name


def picture(study: Study, name: str) -> bytes:
    """The bytes of one of the study's PNG files. UserError where they are no longer those that the items were made with."""
    data = (study.pictures / name).read_bytes()
    if f"{hashlib.sha256(data).hexdigest()[:32]}.png" != name:
        raise UserError(f"{study.pictures / name} has changed since the study was prepared: prepare it again, with a new database.")
    return data


SCHEMA = f"""
CREATE TABLE IF NOT EXISTS participants (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, seed INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY, pair TEXT NOT NULL, model TEXT NOT NULL, sketch TEXT NOT NULL, reference TEXT NOT NULL,
    result TEXT NOT NULL, edited TEXT, words TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS ratings (
    participant INTEGER NOT NULL REFERENCES participants(number), item TEXT NOT NULL REFERENCES items(id),
    question TEXT NOT NULL CHECK (question IN {NAMES}), score INTEGER NOT NULL CHECK (score BETWEEN 1 AND 5), time TEXT NOT NULL,
    PRIMARY KEY (participant, item, question)
) STRICT;
"""


@contextmanager
def _transaction(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction, on the disk when it ends; others that write at the same time wait for it. UserError where it cannot be."""
    try:
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            with connection:
                yield connection
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise UserError(f"The ratings in {database} cannot be read or written ({error}).") from None


def open_study(database: Path, pictures: Path) -> Study:
    """The study of a folder of pictures, its database made where it is missing. UserError if that belongs to other pictures."""
    seed, listed = read_items(pictures)
    items = {item.id: item for item in listed}
    database.parent.mkdir(parents=True, exist_ok=True)
    with _transaction(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        known = {row[0] for row in connection.execute("SELECT id FROM items")}
        if known and known != items.keys():
            raise UserError(f"The ratings in {database} are not of the pictures in {pictures}: give the study a new database.")
        connection.executemany(
            "INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [(id, *astuple(item)) for id, item in items.items()]
        )
    return Study(database, pictures, seed, items)


def join(study: Study) -> str:
    """Takes in a new volunteer -> the id, which nothing but chance decides and which nobody else can guess."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(10))
    name = f"{letters[:5]}-{letters[5:]}"
    with _transaction(study.database) as connection:
        connection.execute("INSERT INTO participants (id, seed) VALUES (?, ?)", (name, study.seed))
    return name


def order(study: Study, participant: str) -> list[Item]:
    """The items as this volunteer sees them: in an order that depends on the study's seed and the volunteer's number alone.

    UserError: there is no such volunteer.
    """
    with _transaction(study.database) as connection:
        number, seed = _participant(connection, participant)

    def place(item: Item) -> bytes:
        return hashlib.sha256(f"{seed} {number} {item.id}".encode()).digest()

    return sorted(study.items.values(), key=place)


def plain_id(typed: str) -> str:
    """A volunteer's id as it was given out, from what somebody typed."""
    letters = re.sub(r"[^a-z0-9]", "", typed.lower())
    return f"{letters[:5]}-{letters[5:]}"


def _participant(connection: sqlite3.Connection, id: str) -> tuple[int, int]:
    row = connection.execute("SELECT number, seed FROM participants WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise UserError("There is no such id in this study. Look at what you wrote down, or start anew.")
    return row


def answer(study: Study, participant: str, item: Item, scores: Mapping[str, int]) -> None:
    """Keeps scores (1 to 5, by question), in place of earlier ones of the same questions: all or none, on the disk on return.

    UserError: no such volunteer. ValueError: no question of this item, or no such score.
    """
    for question, score in scores.items():
        if question not in item.questions or type(score) is not int or score not in SCORES:
            raise ValueError(f"{question!r}: {score!r} is no answer to {', '.join(item.questions)} on a scale from 1 to 5.")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with _transaction(study.database) as connection:
        number, _ = _participant(connection, participant)
        connection.executemany(
            "INSERT INTO ratings VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET time = excluded.time, score = excluded.score WHERE score != excluded.score",
            [(number, item.id, question, score, now) for question, score in scores.items()],
        )


def answers(study: Study, participant: str) -> dict[str, dict[str, int]]:
    """What a volunteer has said so far: scores by item and question. UserError: no such volunteer."""
    with _transaction(study.database) as connection:
        number, _ = _participant(connection, participant)
        found: dict[str, dict[str, int]] = {}
        for item, question, score in connection.execute(
            "SELECT item, question, score FROM ratings WHERE participant = ?", (number,)
        ):
            found.setdefault(item, {})[question] = score
    return found


def is_complete(item: Item, scores: Mapping[str, int]) -> bool:
    return set(item.questions) <= scores.keys()


def ratings(database: Path) -> list[Rating]:
    """All that was said, by volunteer and in the order of the items. UserError where nothing was."""
    if not database.is_file():
        raise UserError(f"There are no ratings: {database} does not exist. Let volunteers rate in the app first.")
    columns = ", ".join(f"items.{field.name}" for field in fields(Item))
    found: dict[tuple[int, str], Rating] = {}
    with _transaction(database) as connection:
        for number, question, score, time, *values in connection.execute(
            f"SELECT participant, question, score, time, {columns} FROM ratings JOIN items ON items.id = ratings.item"
            " ORDER BY participant, items.rowid, question"
        ):
            item = Item(*values)
            before = found.get((number, item.id), Rating(number, item, {}, time))
            found[number, item.id] = Rating(number, item, {**before.scores, question: score}, max(time, before.time))
    if not found:
        raise UserError(f"There are no ratings in {database} yet. Let volunteers rate in the app first.")
    return list(found.values())


def as_csv(rows: Sequence[Rating]) -> bytes:
    """Ratings as a CSV file that a spreadsheet opens as what it is: UTF-8 with its mark, and no cell that begins a formula.

    Volunteers are numbers here: with an id one could go on in somebody's name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["participant", "item", "pair", "model", "edit", *(name.lower() for name in NAMES), "time"])
    for row in rows:
        scores = [row.scores.get(name, "") for name in NAMES]
        texts = [_no_formula(cell) for cell in (row.item.id, row.item.pair, row.item.model, row.item.words)]
        writer.writerow([row.participant, *texts, *scores, row.time])
    return text.getvalue().encode("utf-8-sig")


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(CSV_NOTHING) else cell
