"""Stage: what volunteers said, as charts, a table and a CSV file in `reports/rating`. `python -m pipelines.rating.report`."""

from pathlib import Path

from pipelines import run_stage
from src.app.rating_charts import HEAD, bars, radar, table
from src.app.study import as_csv, ratings
from src.document import Figure, Heading, Table, Text, markdown
from src.files import write_atomically

DATABASE, OUT = Path("rating/ratings.db"), Path("reports/rating")


def main(_: list[str]) -> None:
    rows = ratings(DATABASE)
    volunteers = len({row.participant for row in rows})
    text = markdown(
        [
            Heading(1, "Rating study"),
            Text(
                f"{volunteers} volunteers rated {len(rows)} pictures on a scale from 1 to 5, without knowing whose they were. "
                "Brackets hold the 95 % interval over volunteers, for these pictures. `docs/rating.md` says what was asked."
            ),
            Table(HEAD, table(rows)),
            Figure("Mean scores by model", "radar.svg"),
            Figure("Distribution of scores by model and question", "bars.svg"),
        ]
    )
    OUT.mkdir(parents=True, exist_ok=True)
    files = {
        "radar.svg": radar(rows).encode(),
        "bars.svg": bars(rows).encode(),
        "ratings.csv": as_csv(rows),
        "README.md": text.encode(),
    }
    for name, data in files.items():
        write_atomically(OUT / name, lambda f, data=data: f.write(data))  # type: ignore[misc]
    print(f"{OUT}: {len(rows)} pictures rated by {volunteers} volunteers")


if __name__ == "__main__":
    run_stage(main)
