"""The study's items, volunteers and answers."""

import csv
import dataclasses
import io
import json
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.app.study import (
    ITEMS,
    Study,
    answer,
    answers,
    as_csv,
    join,
    open_study,
    order,
    picture,
    plain_id,
    ratings,
)
from src.files import UserError
from tests.conftest import ROOT


def test_each_volunteer_has_an_order_of_their_own_that_stays(study: Study) -> None:
    ids = [join(study) for _ in range(6)]
    orders = [[item.id for item in order(study, id)] for id in ids]
    assert all(sorted(one) == sorted(study.items) for one in orders)
    assert len({tuple(one) for one in orders}) == 6
    again = open_study(study.database, study.pictures)
    assert [[item.id for item in order(again, id)] for id in ids] == orders


def test_the_order_follows_from_the_seed_and_the_volunteers_number_alone(study: Study, tmp_path: Path) -> None:
    def orders(database: str, seed: int) -> list[list[str]]:
        one = dataclasses.replace(open_study(tmp_path / database, study.pictures), seed=seed)
        return [[item.id for item in order(one, join(one))] for _ in range(3)]

    assert orders("a.db", 7) == orders("b.db", 7) != orders("c.db", 8)


def test_an_answer_is_kept_and_can_be_changed_and_completed(study: Study) -> None:
    id = join(study)
    item = order(study, id)[0]
    answer(study, id, item, {"Quality": 2, "Similarity": 3})
    answer(study, id, item, {"Quality": 5, "Usability": 1})
    assert answers(study, id) == {item.id: {"Quality": 5, "Similarity": 3, "Usability": 1}}
    assert answers(study, join(study)) == {}
    assert plain_id(f" {id.upper().replace('-', ' ')} ") == id


@pytest.mark.parametrize("scores", [{"Quality": 0}, {"Quality": 6}, {"Quality": True}, {"Beauty": 3}, {"Controllability": 3}])
def test_what_is_no_answer_is_refused_and_nothing_of_it_kept(study: Study, scores: dict[str, int]) -> None:
    id = join(study)
    item = next(item for item in study.items.values() if item.edited is None)
    with pytest.raises(ValueError, match="scale from 1 to 5"):
        answer(study, id, item, {"Similarity": 3, **scores})
    assert answers(study, id) == {}


def test_an_unknown_id_is_told_so(study: Study) -> None:
    for call in (order, answers):
        with pytest.raises(UserError, match="no such id"):
            call(study, "aaaaa-aaaaa' OR '1'='1")
    with pytest.raises(UserError, match="no such id"):
        answer(study, "aaaaa-aaaaa", next(iter(study.items.values())), {"Quality": 3})


def test_volunteers_who_answer_at_once_lose_nothing(study: Study) -> None:
    def rate_all(volunteer: int) -> str:
        id = join(study)
        for i, item in enumerate(order(study, id)):
            answer(study, id, item, {name: 1 + (volunteer + i) % 5 for name in item.questions})
        return id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(rate_all, range(8)))
    assert len(set(ids)) == 8
    for volunteer, id in enumerate(ids):
        kept = answers(study, id)
        assert [set(kept[item.id].values()) for item in order(study, id)] == [{1 + (volunteer + i) % 5} for i in range(9)]
    assert len(ratings(study.database)) == 72


RATER = """
import sys
from pathlib import Path
from src.app.study import answer, join, open_study, order
study = open_study(Path(sys.argv[1]), Path(sys.argv[2]))
id = join(study)
while True:
    for item in order(study, id):
        for score in range(1, 6):
            answer(study, id, item, {name: score for name in item.questions})
            print(id, item.id, score, flush=True)
"""


def test_no_answer_is_lost_when_the_process_is_killed(study: Study) -> None:
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", RATER, str(study.database), str(study.pictures)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as rater:
            assert rater.stdout is not None
            said = [rater.stdout.readline().split() for _ in range(23)]
            rater.send_signal(signal.SIGKILL)
            said += [line.split() for line in rater.stdout]
        id, item, score = said[-1]  # acknowledged; one more may be in the database
        kept = answers(open_study(study.database, study.pictures), id)
        assert all(len(set(scores.values())) == 1 for scores in kept.values())  # all questions of a page or none
        following = int(score) % 5 + 1 if int(score) < 5 else None
        assert kept[item]["Quality"] in {int(score), following}
        assert sum(len(scores) for scores in kept.values()) >= sum(len(study.items[i].questions) for i in {i for _, i, _ in said})
    with sqlite3.connect(study.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_csv_file_holds_every_answer_no_id_and_no_formula(study: Study) -> None:
    ids = [join(study), join(study)]
    for id, item in zip(ids, list(study.items.values())[1:3], strict=True):
        answer(study, id, item, dict.fromkeys(item.questions, 4))
    data = as_csv(ratings(study.database))
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [(row["participant"], row["model"], row["quality"], row["controllability"]) for row in rows] == [
        ("1", "CLS", "4", "4"),
        ("2", "'=T2I()", "4", ""),
    ]
    assert not any(id in data.decode() for id in ids)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_a_database_belongs_to_one_set_of_pictures(study: Study, tmp_path: Path) -> None:
    listed = json.loads((study.pictures / ITEMS).read_text())
    (study.pictures / ITEMS).write_text(json.dumps({**listed, "items": listed["items"][1:]}))
    with pytest.raises(UserError, match="give the study a new database"):
        open_study(study.database, study.pictures)
    (tmp_path / "no.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="cannot be read or written"):
        open_study(tmp_path / "no.db", study.pictures)


def test_only_pictures_of_the_folder_are_ever_read_and_only_unchanged_ones(study: Study, tmp_path: Path) -> None:
    item = next(iter(study.items.values()))
    (study.pictures / item.result).write_bytes(b"another picture")
    with pytest.raises(UserError, match="has changed"):
        picture(study, item.result)
    listed = json.loads((study.pictures / ITEMS).read_text())
    listed["items"][0]["result"] = "../ratings.db"
    (study.pictures / ITEMS).write_text(json.dumps(listed))
    with pytest.raises(UserError, match="no picture"):
        open_study(tmp_path / "new.db", study.pictures)


def test_without_ratings_there_is_one_sentence(study: Study, tmp_path: Path) -> None:
    for database in (study.database, tmp_path / "none.db"):
        with pytest.raises(UserError, match="no ratings"):
            ratings(database)
    result = subprocess.run(
        [sys.executable, "-m", "pipelines.rating.report"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and result.stderr.startswith("error: There are no ratings") and result.stderr.count("\n") == 1
