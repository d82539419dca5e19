"""A project of one small source, for tests of what comes in."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from slipway.project import Project
from slipway.step import Step

ROWS = 200
HEADER = ["id", "at", "amount", "kind", "done", "items"]

_CONTRACT = """
    name: events
    description: Events of a shop.
    timezone: America/New_York
    sources:
      events:
        uri: {uri}
        {more}
        key: [id]
        ordered_by: [at, id]
        min_rows: 100
        columns:
          id: {{type: int}}
          at: {{type: timestamp, range: [2024-01-01, 2024-12-31]}}
          amount: {{type: float, range: [0, 1000]}}
          kind: {{type: string, values: [new, used]}}
          done: {{type: bool}}
          items: {{type: int, nulls: 0.1, range: [1, null], severity: warning}}
    tables:
      sales: {{sql: sales.sql}}
    entities:
      kind: {{}}
    views: {{}}
    request:
      amount: {{type: float}}
    target:
      sql: target.sql
      key: [id]
      event_timestamp: at
      label: done
      label_timestamp: at
      task: binary
    split: {{train: 30 days, validate: 5 days, test: 5 days}}
"""


def event_rows(count: int = ROWS) -> list[list[str]]:
    """Rows as CSV has them; every 20th has no `items`."""
    return [
        [
            str(at),
            f"2024-{1 + at // 28:02d}-{1 + at % 28:02d}T08:00:00Z",
            f"{at * 1.5:.2f}",
            "new" if at % 3 else "used",
            "true" if at % 2 else "false",
            "" if at % 20 == 0 else str(1 + at % 7),
        ]
        for at in range(count)
    ]


def csv_text(rows: list[list[str]], header: list[str] | None = None) -> str:
    return "\n".join(",".join(row) for row in [header or HEADER, *rows]) + "\n"


def make_project(folder: Path, uri: str = "events.csv", more: str = "") -> Project:
    """The project in `folder`; `more` is further fields of its source, on one line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sales.sql").write_text("select *, at as known_at from events\n")
    (folder / "target.sql").write_text("select * from sales\n")
    path = folder / "project.yaml"
    path.write_text(dedent(_CONTRACT).format(uri=uri, more=more))
    return Project.load(path)


def make_step(project: Project, name: str = "ingest") -> Step:
    return Step(name, project)
