"""Tables as people keep them, and what is to be understood of each.

`python tests/ordinary_tables.py FOLDER` writes them into a folder and prints what loracast understood of every one.

Hare and lynx are columns of most tables; HARE and LYNX are the numbers, so that a wrong reading shows in any of them.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loracast.series import BY_CONVENTION, Columns

STEPS = 24
HARE = np.round(30 + 20 * np.sin(np.arange(STEPS) * 0.7), 2)
LYNX = np.round(20 + 10 * np.cos(np.arange(STEPS) * 0.7), 2)
NUMBERS = np.column_stack([HARE, LYNX])


@dataclass(frozen=True)
class Ordinary:
    """A file, what is to be read of it, or the message that refuses it.

    values: of the first series, [T, D]; HARE and LYNX unless given.
    first, last, spacing: of the time, as messages write it; None where there is no time.
    says: words that a notice holds; refused: words of the error.
    """

    name: str
    write: Callable[[Path], Any]
    columns: Columns = BY_CONVENTION
    values: np.ndarray | None = None
    names: tuple[str, ...] = ("hare", "lynx")
    ids: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None
    spacing: str | None = None
    says: tuple[str, ...] = ()
    refused: str | None = None
    also: dict[str, Any] = field(default_factory=dict)


def text(content: str, encoding: str = "utf-8") -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content.encode(encoding))


def lines(times: list[Any], sign: str = ",", header: str = "time,hare,lynx", number: Callable = str) -> str:
    rows = [header.replace(",", sign)]
    rows += [sign.join([str(time), number(a), number(b)]) for time, a, b in zip(times, HARE, LYNX)]
    return "\n".join(rows) + "\n"


def comma(value: float) -> str:
    return str(value).replace(".", ",")


def dates(frequency: str, start: str = "2019-01-01", count: int = STEPS, form: str = "%Y-%m-%d") -> list[str]:
    return pd.date_range(start, periods=count, freq=frequency).strftime(form).tolist()


def frame(times: Any, name: str = "date", **more: Any) -> pd.DataFrame:
    return pd.DataFrame({name: times, "hare": HARE, "lynx": LYNX, **more})


YEARS = list(range(1900, 1900 + STEPS))
MONTHS = dates("MS")
GAP = [8, 9, 10, 11]
WITH_GAP = NUMBERS.copy()
WITH_GAP[GAP] = np.nan
YEARLY = {"first": "1900", "last": "1923", "spacing": "yearly"}
MONTHLY = {"first": "2019-01", "last": "2020-12", "spacing": "monthly"}


def without(table: str, rows: list[int]) -> str:
    """A table of text without some rows, counted from 0 below the header."""
    return "".join(line for number, line in enumerate(table.splitlines(keepends=True)) if number - 1 not in rows)


def with_cells(table: str, cells: dict[int, str], sign: str = ",") -> str:
    """A table of text with other texts for `hare` in some rows."""
    rows = table.splitlines()
    for row, cell in cells.items():
        parts = rows[row + 1].split(sign)
        rows[row + 1] = sign.join([parts[0], cell, *parts[2:]])
    return "\n".join(rows) + "\n"


def missing_at(*rows: int) -> np.ndarray:
    values = NUMBERS.copy()
    values[list(rows), 0] = np.nan
    return values


def long(path: Path, id_name: str = "site", labels: tuple[Any, ...] = ("A", "B")) -> None:
    tables = [frame(YEARS, "year", **{id_name: label}) for label in labels]
    pd.concat(tables).sample(frac=1, random_state=0).sort_values([id_name, "year"]).to_csv(path, index=False)


def plain(times: list[Any], header: str, **expected: Any) -> Callable[[str], Ordinary]:
    return lambda name: Ordinary(name, text(lines(times, header=header)), **expected)


TABLES: list[Ordinary] = [
    plain(YEARS, "year,hare,lynx", **YEARLY)("years.csv"),
    plain(YEARS, "année,hare,lynx", **YEARLY)("année.csv"),
    plain(YEARS, "Jahr,hare,lynx", **YEARLY)("Jahr.csv"),
    plain(list(range(1, 25)), "day,hare,lynx", first="1", last="24", spacing="in steps of 1")("day.csv"),
    plain(list(range(1, 25)), "Semana,hare,lynx", first="1", last="24", spacing="in steps of 1")("semana.csv"),
    plain([0.5 * step for step in range(24)], "Time (s),hare,lynx", first="0", last="11.5", spacing="in steps of 0.5")(
        "seconds.csv"
    ),
    plain(MONTHS, "fecha,hare,lynx", **MONTHLY)("fecha.csv"),
    Ordinary("tabs.tsv", text(lines(YEARS, "\t", "year,hare,lynx")), **YEARLY),
    Ordinary("bars.txt", text(lines(YEARS, "|", "year,hare,lynx")), **YEARLY),
    Ordinary(
        "aligned.dat",
        text("".join(f"{a:>8} {b:>10} {c:>10}\n" for a, b, c in [("year", "hare", "lynx"), *zip(YEARS, HARE, LYNX)])),
        **YEARLY,
    ),
    Ordinary(
        "semicolons.csv",
        text(lines(YEARS, ";", "Jahr,hare,lynx", comma)),
        says=("decimal comma",),
        **YEARLY,
    ),
    Ordinary("latin1.csv", text(lines(YEARS, ";", "année,hare,lynx", comma), "latin-1"), says=("Latin-1",), **YEARLY),
    Ordinary("utf16.csv", text(lines(YEARS, "\t", "year,hare,lynx"), "utf-16"), **YEARLY),
    Ordinary("utf16-no-mark.csv", text(lines(YEARS, header="year,hare,lynx"), "utf-16-le"), **YEARLY),
    Ordinary("utf8-mark.csv", text(lines(YEARS, header="year,hare,lynx"), "utf-8-sig"), **YEARLY),
    Ordinary("excel-sep.csv", text("sep=;\r\n" + lines(YEARS, ";", "year,hare,lynx", comma)), **YEARLY),
    Ordinary("windows-ends.csv", text(lines(YEARS, header="year,hare,lynx").replace("\n", "\r\n")), **YEARLY),
    Ordinary(
        "thousands.csv",
        text(lines(YEARS, ",", "year,hare,lynx", lambda value: f'"{value * 1000:,.0f}"')),
        values=np.round(NUMBERS * 1000),
        **YEARLY,
    ),
    Ordinary(
        "thousands-german.csv",
        text(lines(YEARS, ";", "Jahr,hare,lynx", lambda value: f"{value * 1000:,.2f}".translate({44: 46, 46: 44}))),
        values=NUMBERS * 1000,
        **YEARLY,
    ),
    Ordinary(
        "thousands-spaces.csv",
        text(
            lines(
                YEARS,
                ";",
                "an,hare,lynx",
                lambda value: f"{value * 1000:,.1f}".replace(",", "\u202f").replace(".", ","),
            )
        ),
        values=NUMBERS * 1000,
        **YEARLY,
    ),
    Ordinary("quoted.csv", text(lines(YEARS, ",", '"year","hare","lynx"', lambda value: f'"{value}"')), **YEARLY),
    Ordinary(
        "missing-words.csv",
        text(
            with_cells(
                lines(YEARS, header="year,hare,lynx"),
                {3: "NA", 4: "N/A", 5: "ND", 6: "-", 7: ".", 8: "", 9: "n.d.", 10: "NaN", 11: "null", 12: "#N/A"},
            )
        ),
        values=missing_at(*range(3, 13)),
        **YEARLY,
    ),
    Ordinary(
        "missing-code.csv",
        text(with_cells(lines(YEARS, header="year,hare,lynx"), {3: "-999", 9: "-999"})),
        values=missing_at(3, 9),
        says=("-999 in column 'hare' read as missing",),
        **YEARLY,
    ),
    Ordinary("pandas-index.csv", lambda path: frame(MONTHS).to_csv(path), says=("row numbers left out",), **MONTHLY),
    Ordinary(
        "pandas-date-index.csv", lambda path: frame(MONTHS).set_index("date").rename_axis(None).to_csv(path), **MONTHLY
    ),
    Ordinary("r-row-names.csv", text(without(lines(MONTHS, header="hare,lynx"), [])), **MONTHLY),
    Ordinary("site.csv", long, ids=("A", "B"), **YEARLY),
    Ordinary("species.csv", lambda path: long(path, "Species", ("wolf", "moose")), ids=("moose", "wolf"), **YEARLY),
    Ordinary("station-numbers.csv", lambda path: long(path, "station", (101, 102)), ids=("101", "102"), **YEARLY),
    Ordinary(
        "site-and-plot.csv",
        lambda path: pd.concat([frame(YEARS, "year", site=site, plot=plot) for site in "AB" for plot in (1, 2)]).to_csv(
            path, index=False
        ),
        ids=("A/1", "A/2", "B/1", "B/2"),
        **YEARLY,
    ),
    Ordinary(
        "notes.csv",
        lambda path: frame(YEARS, "year", notes=["", "storm, no survey"] * 12).to_csv(path, index=False),
        says=("column 'notes' left out: it holds text",),
        **YEARLY,
    ),
    Ordinary(
        "unsorted.csv",
        lambda path: frame(YEARS, "year").sample(frac=1, random_state=1).to_csv(path, index=False),
        says=("sorted",),
        **YEARLY,
    ),
    Ordinary(
        "newest-first.csv", lambda path: frame(MONTHS)[::-1].to_csv(path, index=False), says=("sorted",), **MONTHLY
    ),
    Ordinary(
        "absent-months.csv",
        text(without(lines(MONTHS, header="month,hare,lynx"), GAP)),
        values=WITH_GAP,
        says=("4 absent months are read as missing",),
        **MONTHLY,
    ),
    Ordinary(
        "month-ends.csv",
        text(lines(dates("ME"), header="date,hare,lynx")),
        first="2019-01-31",
        last="2020-12-31",
        spacing="monthly",
    ),
    Ordinary(
        "quarters.csv",
        text(
            lines(
                dates("QS", form="%YQ") and [f"{2019 + q // 4}Q{q % 4 + 1}" for q in range(24)],
                header="quarter,hare,lynx",
            )
        ),
        first="2019-01",
        last="2024-10",
        spacing="quarterly",
    ),
    Ordinary(
        "weeks.csv",
        text(lines(dates("W-WED"), header="week,hare,lynx")),
        first="2019-01-02",
        last="2019-06-12",
        spacing="weekly",
    ),
    Ordinary(
        "business-days.csv",
        text(lines(dates("B"), header="date,hare,lynx")),
        first="2019-01-01",
        last="2019-02-01",
        spacing="business days",
    ),
    Ordinary(
        "year-month.csv",
        lambda path: frame([int(d[:4]) for d in MONTHS], "year", month=[int(d[5:7]) for d in MONTHS]).to_csv(
            path, index=False
        ),
        **MONTHLY,
    ),
    Ordinary(
        "year-month-names.csv",
        lambda path: frame([int(d[:4]) for d in MONTHS], "Year", Month=dates("MS", form="%b")).to_csv(
            path, index=False
        ),
        **MONTHLY,
    ),
    Ordinary(
        "date-and-time.csv",
        lambda path: frame(dates("h", form="%Y-%m-%d"), "date", time=dates("h", form="%H:%M")).to_csv(
            path, index=False
        ),
        first="2019-01-01 00:00",
        last="2019-01-01 23:00",
        spacing="hourly",
    ),
    Ordinary(
        "german-dates.csv",
        text(lines(dates("D", form="%d.%m.%Y"), ";", "Datum,hare,lynx", comma)),
        first="2019-01-01",
        last="2019-01-24",
        spacing="daily",
    ),
    Ordinary(
        "american-dates.csv",
        text(lines(dates("D", form="%m/%d/%Y"), header="Date,hare,lynx")),
        first="2019-01-01",
        last="2019-01-24",
        spacing="daily",
    ),
    Ordinary("named-months.csv", text(lines(dates("MS", form="%b %Y"), header="period,hare,lynx")), **MONTHLY),
    Ordinary(
        "compact-dates.csv",
        text(lines(dates("D", form="%Y%m%d"), header="date,hare,lynx")),
        first="2019-01-01",
        last="2019-01-24",
        spacing="daily",
        says=("read as dates",),
    ),
    Ordinary(
        "iso-zone.csv",
        text(lines(dates("h", form="%Y-%m-%dT%H:%M:%S+01:00"), header="timestamp,hare,lynx")),
        first="2019-01-01 00:00",
        last="2019-01-01 23:00",
        spacing="hourly",
    ),
    Ordinary(
        "survey-days-vary.csv",
        text(lines([f"{d[:8]}{14 + (3 * n) % 5:02}" for n, d in enumerate(MONTHS)], header="survey_date,hare,lynx")),
        first="2019-01-16",
        last="2020-12-16",
        spacing="monthly",
        says=("placed on it",),
    ),
    Ordinary(
        "title-above.csv",
        text("Fur returns of the Company\nthousands of pelts\n" + lines(YEARS, header="year,hare,lynx")),
        says=("above the header left out",),
        **YEARLY,
    ),
    Ordinary(
        "units-below.csv",
        text(lines(YEARS, header="year,hare,lynx").replace("lynx\n", "lynx\nAD,thousands,thousands\n", 1)),
        says=("below the header is left out",),
        **YEARLY,
    ),
    Ordinary(
        "comments.csv",
        text("# fur\n" + lines(YEARS, header="year,hare,lynx").replace("1905", "# doubtful from here\n1905")),
        **YEARLY,
    ),
    Ordinary("blank-rows-at-end.csv", text(lines(YEARS, header="year,hare,lynx") + ",,\n,,\n\n"), **YEARLY),
    Ordinary("trailing-signs.csv", text(lines(YEARS, ";", "year,hare,lynx").replace("\n", ";\n")), **YEARLY),
    Ordinary(
        "gzipped.csv.gz",
        lambda path: path.write_bytes(gzip.compress(lines(YEARS, header="year,hare,lynx").encode())),
        **YEARLY,
    ),
    Ordinary("no-time.csv", text("".join(f"{a},{b}\n" for a, b in [("hare", "lynx"), *NUMBERS.tolist()]))),
    Ordinary(
        "no-header.csv",
        text("".join(f"{a},{b}\n" for a, b in NUMBERS.tolist())),
        names=("x1", "x2"),
        says=("the first line holds numbers",),
    ),
    Ordinary("one-column.csv", text("hare\n" + "".join(f"{a}\n" for a in HARE)), names=("hare",), values=HARE[:, None]),
    Ordinary("dates.parquet", lambda path: frame(pd.to_datetime(MONTHS)).to_parquet(path), **MONTHLY),
    Ordinary(
        "zoned.parquet",
        lambda path: frame(pd.date_range("2021-10-30 12:00", periods=24, freq="h", tz="Europe/Berlin"), "t").to_parquet(
            path
        ),
        first="2021-10-30 12:00",
        last="2021-10-31 10:00",
        spacing="hourly",
    ),
    Ordinary("index.parquet", lambda path: frame(pd.to_datetime(MONTHS)).set_index("date").to_parquet(path), **MONTHLY),
    Ordinary(
        "sheet.xlsx",
        lambda path: frame(pd.to_datetime(MONTHS), notes=["ok"] * STEPS).to_excel(path, index=False),
        says=("'notes' left out",),
        **MONTHLY,
    ),
    Ordinary("second-sheet.xlsx", lambda path: _sheets(path), says=("sheet 'pelts' is read",), **YEARLY),
    # What is to be refused, with the remedy in the message.
    Ordinary(
        "ambiguous-dates.csv",
        text(lines([f"{d[5:7]}/01/{d[:4]}" for d in MONTHS[:12]], header="date,hare,lynx")),
        refused="--dates day-first or --dates month-first",
    ),
    Ordinary("unknown-time.csv", text(lines(YEARS, header="annus,hare,lynx")), refused="--time annus"),
    Ordinary(
        "unknown-even.csv",
        text(lines([0.25 * step for step in range(24)], header="minutes_in,hare,lynx")),
        refused="--time minutes_in",
    ),
    Ordinary(
        "duplicates.csv", text(lines([*YEARS[:5], 1904, *YEARS[6:]], header="year,hare,lynx")), refused="rows 6 and 7"
    ),
    Ordinary("unknown-id.csv", lambda path: long(path, "bird", ("owl", "kite")), refused="--id bird"),
    Ordinary(
        "uneven.csv",
        text(lines(np.cumsum([1 + 7 * (n * n % 5) for n in range(24)]).tolist(), header="t,hare,lynx")),
        refused="--every",
    ),
    Ordinary(
        "typo.csv",
        text(with_cells(lines(YEARS, header="year,hare,lynx"), {4: "32.1*"})),
        refused="row 6, column 'hare': '32.1*' is not a number",
    ),
    Ordinary(
        "two-times.csv",
        lambda path: frame(YEARS, "year", step=range(24)).to_csv(path, index=False),
        refused="choose it with --time",
    ),
    Ordinary("ragged.csv", text(lines(YEARS, header="year,hare,lynx") + "1924,30.1\n"), refused="row 26: 2 cells"),
    Ordinary("empty.csv", text(""), refused="the file is empty"),
    Ordinary("only-text.csv", text("name,notes\na,b\nc,d\n"), refused="no column of numbers"),
    Ordinary(
        "transposed.csv",
        text(
            "species,"
            + ",".join(map(str, YEARS))
            + "\nhare,"
            + ",".join(map(str, HARE))
            + "\nlynx,"
            + ",".join(map(str, LYNX))
            + "\n"
        ),
        refused="stands on its side",
    ),
    Ordinary("old-excel.xls", text("binary"), refused="save the sheet as .xlsx"),
    # With options.
    Ordinary(
        "duplicates-mean.csv",
        text(lines(YEARS, header="year,hare,lynx") + f"1923,{HARE[-1]},{LYNX[-1]}\n"),
        Columns(duplicates="mean"),
        says=("averaged",),
        **YEARLY,
    ),
    Ordinary(
        "every-day.csv",
        text(lines(dates("12h", form="%Y-%m-%d %H:%M"), header="date,hare,lynx")),
        Columns(every="1D", aggregate="mean"),
        values=NUMBERS.reshape(12, 2, 2).mean(1),
        says=("24 rows brought to 12 steps",),
        first="2019-01-01",
        last="2019-01-12",
        spacing="daily",
    ),
    Ordinary(
        "chosen.csv",
        lambda path: frame(YEARS, "year", rain=range(24), effort=1.0).to_csv(path, index=False),
        Columns(targets=("hare", "lynx")),
        says=("columns left out: rain, effort",),
        **YEARLY,
    ),
    Ordinary(
        "known.csv",
        lambda path: frame(YEARS, "year", rain=np.tile([1.0, 5.0, 2.0], 8)).to_csv(path, index=False),
        Columns(known=("rain",)),
        names=("rain", "hare", "lynx"),
        values=np.column_stack([np.tile([1.0, 5.0, 2.0], 8), NUMBERS]),
        **YEARLY,
    ),
]


def _sheets(path: Path) -> None:
    with pd.ExcelWriter(path) as book:
        frame(YEARS, "year").to_excel(book, sheet_name="pelts", index=False, startrow=2)
        pd.DataFrame({"a": [1]}).to_excel(book, sheet_name="other", index=False)


def main(folder: Path) -> None:
    from loracast.errors import LoracastError
    from loracast.series import read

    folder.mkdir(parents=True, exist_ok=True)
    print("| file | what was understood |\n| --- | --- |")
    for one in TABLES:
        path = folder / one.name
        one.write(path)
        try:
            reading = read(path, one.columns)
            told = reading.understood().removeprefix(f"{path}: ").replace("\n", "; ")
            told += "".join(f" *{notice}.*" for notice in reading.notices)
        except LoracastError as error:
            told = f"refused: {str(error).removeprefix(f'{path}')}"
        print(f"| {one.name} | {told} |".replace(str(folder) + "/", ""))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
