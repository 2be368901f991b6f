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


def zoned_clock(start: str) -> list[str]:
    return pd.date_range(start, periods=STEPS, freq="h", tz="Europe/Berlin").strftime("%Y-%m-%d %H:%M").tolist()


def with_value(row: int, value: float) -> np.ndarray:
    values = NUMBERS.copy()
    values[row, 0] = value
    return values


POLISH = [
    "styczeń",
    "luty",
    "marzec",
    "kwiecień",
    "maj",
    "czerwiec",
    "lipiec",
    "sierpień",
    "wrzesień",
    "październik",
    "listopad",
    "grudzień",
]
YEARS = list(range(1900, 1900 + STEPS))
MONTHS = dates("MS")
GAP = [8, 9, 10, 11]
WITH_GAP = NUMBERS.copy()
WITH_GAP[GAP] = np.nan
YEARLY: dict[str, Any] = {"first": "1900", "last": "1923", "spacing": "yearly"}
MONTHLY: dict[str, Any] = {"first": "2019-01", "last": "2020-12", "spacing": "monthly"}


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
    Ordinary(
        "r-quoted.txt",
        text(
            '"year" "hare" "lynx"\n'
            + "".join(f'"{n}" {y} {a} {b}\n' for n, (y, a, b) in enumerate(zip(YEARS, HARE, LYNX), 1))
        ),
        says=("row numbers left out",),
        **YEARLY,
    ),
    Ordinary(
        "r-quoted-sites.txt",
        text('"site" "year" "hare" "lynx"\n' + "".join(f'"S A" {y}  {a} {b}\n' for y, a, b in zip(YEARS, HARE, LYNX))),
        ids=("S A",),
        **YEARLY,
    ),
    Ordinary(
        "two-digit-years.csv",
        text(lines(dates("MS", "1959-01-01", form="%b-%y"), header="Month,hare,lynx")),
        says=("two-digit years such as that of Jan-59 read as 1937 to 2036",),
        first="1959-01",
        last="1960-12",
        spacing="monthly",
    ),
    Ordinary(
        "week-slash-year.csv",
        text(lines([f"{n + 10}/2020" for n in range(STEPS)], header="week,hare,lynx")),
        first="2020-03-02",
        last="2020-08-10",
        spacing="weekly",
    ),
    Ordinary(
        "some-percent.csv",
        text(lines(YEARS, header="year,hare,lynx").replace(f",{HARE[3]},", f",{HARE[3]}%,")),
        says=("some cells of column 'hare' have a sign such as '%'",),
        **YEARLY,
    ),
    Ordinary(
        "tidy-alternating.csv",
        text(
            "date,variable,value,unit\n"
            + "".join(f"{d},{'PN'[n % 2]},{a},{'mg'[n % 2]}\n" for n, (d, a) in enumerate(zip(dates("D"), HARE)))
        ),
        names=("value",),
        ids=("P", "N"),
        values=HARE[::2, None],
        says=("column 'unit' left out",),
        first="2019-01-01",
        last="2019-01-24",
        spacing="every 2 days",
    ),
    Ordinary(
        "dates-across.csv",
        text(f"site,{','.join(dates('D'))}\nA,{','.join(map(str, HARE))}\nB,{','.join(map(str, LYNX))}\n"),
        refused="stands on its side, with times as columns (2019-01-01",
    ),
    Ordinary(
        "thousands-beside-points.tsv",
        text(
            "Year\thare\tlynx\n" + "".join(f"{y}\t{1000 * round(a):,}\t{b:.2f}\n" for y, a, b in zip(YEARS, HARE, LYNX))
        ),
        values=np.column_stack([1000 * np.round(HARE), LYNX]),
        says=("with a comma between thousands",),
        **YEARLY,
    ),
    # Refused, since a reading would be a guess.
    Ordinary(
        "bare-decimal-commas.csv",
        text("year,hare\n" + "\n".join(f"{y},{comma(a)}" for y, a in zip(YEARS, HARE)) + "\n"),
        refused="separate cells by semicolons",
    ),
    Ordinary(
        "total-label.csv", text(lines([*YEARS[:-1], "Total"], header="year,hare,lynx")), refused="take that row out"
    ),
    Ordinary("years-bp.csv", text(lines(YEARS[::-1], header="years_BP,hare,lynx")), refused="years that grow"),
    Ordinary(
        "clock-alone.csv",
        text(lines([f"{hour:02}:00" for hour in range(STEPS)])),
        refused="'00:00' is a time of day without a date",
    ),
    Ordinary(
        "months-alone.csv",
        text(lines(dates("MS", form="%b"), header="month,hare,lynx")),
        refused="'Jan' is a month without a year",
    ),
    Ordinary(
        "spring-and-autumn.csv",
        text(lines([f"{('spring', 'autumn')[n % 2]} {2000 + n // 2}" for n in range(STEPS)], header="date,hare,lynx")),
        refused="row 2, column 'date': 'spring 2000' is neither a number nor a date",
    ),
    Ordinary(
        "unknown-months.csv",
        text(lines([f"{'abcdefghijkl'[n % 12]}. {2000 + n // 12}" for n in range(STEPS)], header="when?,hare,lynx")),
        refused="row 2, column 'when?': 'a. 2000'",
    ),
    Ordinary(
        "no-such-day.csv", text(lines(["2021-02-31", *dates("D")[1:]], header="date,hare,lynx")), refused="'2021-02-31'"
    ),
    Ordinary(
        "clocks-set-back.csv",
        text(lines(zoned_clock("2024-10-26 20:00"), header="time,hare,lynx")),
        refused="time 2024-10-27 02:00 appears twice in series 'clocks-set-back'; if clocks were set back then",
    ),
    Ordinary("cyrillic.csv", text(lines(YEARS, header="год,заяц,рысь"), "cp1251"), refused="save it as UTF-8"),
    Ordinary(
        "zero-byte.csv",
        text(with_cells(lines(YEARS, header="year,hare,lynx"), {4: "3\0"})),
        refused="row 6: the file holds a zero byte",
    ),
    Ordinary(
        "brackets.csv",
        text(with_cells(lines(YEARS, header="year,hare,lynx"), {4: "(32.1)"})),
        refused="'(32.1)' is not a number; write -32.1 if brackets mean a negative number",
    ),
    Ordinary(
        "merged-ids.csv",
        text(
            lines(YEARS, header="year,hare,lynx")
            .replace("year", "site,year")
            .replace("\n19", "\n,19")
            .replace("\n,", "\nA,", 1)
        ),
        refused="a cell that is merged in a spreadsheet fills the first of its rows only",
    ),
    Ordinary(
        "year-and-season.csv",
        text(lines([f"{2000 + n // 2},{('wet', 'dry')[n % 2]}" for n in range(STEPS)], header="year,season,hare,lynx")),
        refused="write year and season as one time",
    ),
    Ordinary(
        "formulas.xlsx", lambda path: _formulas(path), refused="row 5, column 'lynx': the value of the formula =B5*2"
    ),
    # Read as they are, with a doubt.
    Ordinary(
        "total-row.csv",
        text(lines(YEARS, header="year,hare,lynx") + f"1924,{HARE.sum():.2f},{LYNX.sum():.2f}\n"),
        values=np.vstack([NUMBERS, np.round(NUMBERS.sum(0), 2)]),
        says=("row 26 holds the sums of all rows before it",),
        first="1900",
        last="1924",
        spacing="yearly",
    ),
    Ordinary(
        "far-value.csv",
        text(with_cells(lines(YEARS, header="year,hare,lynx"), {4: '"1,234"'})),
        values=with_value(4, 1234.0),
        says=(
            "read with a comma between thousands",
            "1234 in column 'hare' (row 6) is 24.8 times as large as all else",
        ),
        **YEARLY,
    ),
    Ordinary(
        "errors-and-totals.csv",
        lambda path: frame(YEARS, "year", hare_se=HARE / 10, lat=52.1, total=HARE + LYNX + HARE / 10 + 52.1).to_csv(
            path, index=False
        ),
        names=("hare", "lynx", "hare_se", "lat", "total"),
        values=np.column_stack([NUMBERS, HARE / 10, np.full(STEPS, 52.1), HARE + LYNX + HARE / 10 + 52.1]),
        says=("'hare_se' is called like an error", "'lat' is 52.1 in all rows", "'total' is the sum of others"),
        **YEARLY,
    ),
    Ordinary(
        "rain-goes-on.csv",
        text(lines(YEARS, header="year,hare,rain") + "1924,,5\n1925,,6\n1926,,7\n"),
        names=("hare", "rain"),
        values=np.vstack([NUMBERS, [[np.nan, 5], [np.nan, 6], [np.nan, 7]]]),
        says=("'hare' has its last value at 1923, rain at 1926; if rain is known for the future, say --known rain",),
        first="1900",
        last="1926",
        spacing="yearly",
    ),
    Ordinary(
        "serial-days.csv",
        text(lines(range(43831, 43831 + STEPS), header="date,hare,lynx")),
        says=("43831 would be 2020-01-01",),
        first="43831",
        last="43854",
        spacing="in steps of 1",
    ),
    Ordinary(
        "header-again.csv",
        text(lines(YEARS, header="year,hare,lynx").replace("\n1912", "\nyear,hare,lynx\n1912")),
        says=("row 14 is left out, for the header is repeated there",),
        **YEARLY,
    ),
    # Other forms of dates.
    Ordinary(
        "morning.csv",
        text(lines([f"{day},8:00 AM" for day in dates("D")], header="date,time,hare,lynx")),
        first="2019-01-01 08:00",
        last="2019-01-24 08:00",
        spacing="daily",
    ),
    Ordinary(
        "short-iso.csv",
        text(
            lines(
                [f"2019-{n % 12 + 1}-1" if n < 12 else f"2020-{n % 12 + 1}-1" for n in range(STEPS)],
                header="date,hare,lynx",
            )
        ),
        **MONTHLY,
    ),
    Ordinary(
        "polish-months.csv",
        text(lines([f"{POLISH[n % 12]} {2019 + n // 12}" for n in range(STEPS)], header="miesiąc,hare,lynx")),
        **MONTHLY,
    ),
    Ordinary(
        "chinese-months.csv",
        text(lines([f"{2019 + n // 12}年{n % 12 + 1}月" for n in range(STEPS)], header="日期,hare,lynx")),
        **MONTHLY,
    ),
    Ordinary(
        "trimestres.csv",
        text(lines([f"T{n % 4 + 1} {2019 + n // 4}" for n in range(STEPS)], header="trimestre,hare,lynx")),
        first="2019-01",
        last="2024-10",
        spacing="quarterly",
    ),
    Ordinary(
        "half-years.csv",
        text(lines([f"{2010 + n // 2}-S{n % 2 + 1}" for n in range(STEPS)], header="period,hare,lynx")),
        first="2010-01",
        last="2021-07",
        spacing="every 6 months",
    ),
    Ordinary(
        "seasons.csv",
        text(lines([f"{year}/{(year + 1) % 100:02}" for year in YEARS], header="season,hare,lynx")),
        says=("read as the years in which they begin",),
        **YEARLY,
    ),
    # With options.
    Ordinary(
        "epiweeks.csv",
        text(lines([202001 + n for n in range(STEPS)], header="epiweek,hare,lynx")),
        says=("read as ISO weeks",),
        first="2019-12-30",
        last="2020-06-08",
        spacing="weekly",
    ),
    Ordinary(
        "semaines.csv",
        text(lines([f"2020-S{n + 30}" for n in range(STEPS)], header="semaine,hare,lynx")),
        first="2020-07-20",
        last="2020-12-28",
        spacing="weekly",
    ),
    Ordinary(
        "unix-seconds.csv",
        text(lines([1_700_000_000 + 3600 * n for n in range(STEPS)], header="timestamp,hare,lynx")),
        says=("read as times since 1970, in UTC",),
        first="2023-11-14 22:13:20",
        last="2023-11-15 21:13:20",
        spacing="hourly",
    ),
    Ordinary(
        "decimal-years.csv",
        text(lines([f"{1960 + n / 12:.3f}" for n in range(STEPS)], header="decimal_year,hare,lynx")),
        says=("placed on it (in steps of 0.0833333)",),
        first="1960",
        last="1961.916667",
        spacing="in steps of 0.0833333",
    ),
    Ordinary("japanese-years.csv", text(lines([f"{year}年" for year in YEARS], header="年,hare,lynx")), **YEARLY),
    Ordinary(
        "yyyy-mm-dd.txt",
        text(lines([f"2019 01 {n + 1:02}" for n in range(STEPS)], " ", "YYYY,MM,DD,hare,lynx")),
        first="2019-01-01",
        last="2019-01-24",
        spacing="daily",
    ),
    Ordinary(
        "occurrences.tsv",
        text(
            "gbifID\toccurrenceID\tspecies\teventDate\thare\tlynx\n"
            + "".join(f"{90 + n}\tocc{n}\tLepus\t{1900 + n}-05-01\t{HARE[n]}\t{LYNX[n]}\n" for n in range(STEPS))
        ),
        ids=("Lepus",),
        says=("column 'gbifID' left out: it has another value", "column 'occurrenceID' left out: it holds text"),
        first="1900-05",
        last="1923-05",
        spacing="yearly",
    ),
    Ordinary(
        "entities.csv",
        text(
            "Entity,Code,Year,Population\n"
            + "".join(
                f"{name},{name[:2]},{year},{value}\n"
                for name in ("Peru", "Fiji")
                for year, value in zip(YEARS, HARE * 100)
            )
        ),
        names=("Population",),
        values=np.round(HARE * 100)[:, None],
        ids=("Pe", "Fi"),
        says=("column 'Entity' left out",),
        **YEARLY,
    ),
    Ordinary(
        "hours-alone.csv",
        text(lines([n % 12 for n in range(STEPS)], header="hour,hare,lynx")),
        refused="'hour' alone does not tell when",
    ),
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
    Ordinary(
        "days-of-years.csv",
        text(lines([2019001 + n for n in range(STEPS)], header="date,hare,lynx")),
        says=("read as dates",),
        first="2019-01-01",
        last="2019-01-24",
        spacing="daily",
    ),
    Ordinary(
        "date-and-hour.csv",
        text(lines([f"2020-01-0{1 + n // 12},{2 * (n % 12)}" for n in range(STEPS)], header="Date,Hour,hare,lynx")),
        first="2020-01-01 00:00",
        last="2020-01-02 22:00",
        spacing="every 2 hours",
    ),
    Ordinary(
        "datum-und-uhrzeit.csv",
        text(
            lines(
                [f"0{1 + n // 12}.01.2020;{2 * (n % 12):02}:00" for n in range(STEPS)], ";", "Datum,Uhrzeit,hare,lynx"
            )
        ),
        first="2020-01-01 00:00",
        last="2020-01-02 22:00",
        spacing="every 2 hours",
    ),
    Ordinary(
        "jahr-und-kw.csv",
        text(lines([f"2020;{n + 10}" for n in range(STEPS)], ";", "Jahr,KW,hare,lynx")),
        says=("ISO weeks",),
        first="2020-03-02",
        last="2020-08-10",
        spacing="weekly",
    ),
    Ordinary(
        "mmwr.csv",
        text(lines([f"2016,{n + 1}" for n in range(STEPS)], header="MMWR Year,MMWR Week,hare,lynx")),
        says=("begin on Sundays",),
        first="2016-01-03",
        last="2016-06-12",
        spacing="weekly",
    ),
    Ordinary(
        "year-mo-dy.txt",
        text(lines([f"2019 1 {n + 1}" for n in range(STEPS)], " ", "YEAR MO DY hare lynx")),
        first="2019-01-01",
        last="2019-01-24",
        spacing="daily",
    ),
    Ordinary(
        "year-and-q1.csv",
        text(lines([f"{2000 + n // 4},Q{n % 4 + 1}" for n in range(STEPS)], header="year,qtr,hare,lynx")),
        first="2000-01",
        last="2005-10",
        spacing="quarterly",
    ),
    Ordinary(
        "line-break.csv",
        text(lines(YEARS, header='"Year\n(AD)",hare,lynx')),
        **YEARLY,
    ),
    Ordinary(
        "some-without-code.csv",
        text(
            "Entity,Code,Year,hare,lynx\n"
            + "".join(
                f"{who},{year},{a},{b}\n" for who in ("Africa,", "Albania,ALB") for year, (a, b) in zip(YEARS, NUMBERS)
            )
        ),
        ids=("Africa", "Albania"),
        says=("column 'Code' left out: some rows have none",),
        **YEARLY,
    ),
    Ordinary("readme-first.xlsx", lambda path: _readme(path), says=("sheet 'data' is read",), **YEARLY),
    Ordinary(
        "catalogue-numbers.csv",
        text(
            lines([f"{year},{50_000 + 7 * n}" for n, year in enumerate(YEARS)], header="year,catalogNumber,hare,lynx")
        ),
        says=("another value in each row",),
        **YEARLY,
    ),
    Ordinary("no-table.csv", text('[{"year": 2001, "hare": 3}]'), refused="the file is JSON"),
]


def _readme(path: Path) -> None:
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"About": ["These are pelts.", "They were counted."]}).to_excel(
            book, sheet_name="readme", index=False
        )
        frame(YEARS, "year").to_excel(book, sheet_name="data", index=False)


def _formulas(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["year", "hare", "lynx"])
    for row, (year, hare) in enumerate(zip(YEARS, HARE), 2):
        book.active.append([year, float(hare), f"=B{row}*2" if row > 4 else 1.0])
    book.save(path)


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
            told = f"refused: {str(error).removeprefix(str(path)).lstrip(':, ')}"
        print(f"| {one.name} | {told} |".replace(str(folder) + "/", ""))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
