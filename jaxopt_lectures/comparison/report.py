"""A comparison's record with what a user asks of it: tables, and files."""

from pathlib import Path

from jaxopt_lectures.comparison import files, table
from jaxopt_lectures.comparison.results import Record


class Report(Record):
    """A comparison on one task or several, and all that is needed to judge or repeat it."""

    def table(self, width: int = 79) -> str:
        """The tables, verdicts and notes as text."""
        return "\n".join(table.lines(self, width))

    def save(self, folder: str | Path) -> list[Path]:
        """Writes results.json, results.csv, report.html and pictures into the folder, made if need be; their paths.

        Raises:
          OSError: it cannot be written to.
        """
        return files.save(self, Path(folder))

    def __repr__(self) -> str:
        return self.table()


def read(folder: str | Path) -> Report:
    """The report in a folder, or in a `results.json`.

    Raises:
      OSError: no such file.
      OtherSchema: not a results file, or one of another schema.
    """
    found = files.read(Path(folder))
    return Report(found.protocol, found.environment, found.comparisons, found.complete)
