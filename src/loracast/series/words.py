"""The names by which the columns of a table are recognised, in the languages that tables are written in."""

from __future__ import annotations

import re
import shlex
import unicodedata


def plain(name: str) -> str:
    """A column's name without case, accents, units in brackets and punctuation: "Année_(AD)" is "annee"."""
    name = re.sub(r"[(\[{][^)\]}]*[)\]}]", " ", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # the words of SampleDate and siteID
    name = unicodedata.normalize("NFKD", name.casefold().replace("ß", "ss"))
    name = "".join(letter for letter in name if not unicodedata.combining(letter))
    return re.sub(r"[\s_.\-:/]+", " ", name).strip()


def _words(text: str) -> list[str]:
    return [plain(word) for word in text.split()]


YEAR = _words(
    "year yr years annee an ans jahr jahre ano anos anno anni jaar ar rok god vuosi 年 год السنة سنة שנה वर्ष 년 năm "
    "yıl tahun έτος"
)
MONTH = _words("month months mon mois monat monate mes meses mese maand manad maned miesiac mesic kuukausi 月 месяц")
QUARTER = _words("quarter quarters qtr trimestre trimester quartal kwartaal kvartal")
WEEK = _words(
    "week weeks semaine woche semana settimana uke vecka tydzien tyden viikko 周 неделя epiweek isoweek yearweek"
)
DAY = _words("day days jour jours tag tage dia dias giorno giorni dag dagen dzien den paiva 日 день")
HOUR = _words("hour hours hr hrs heure heures stunde stunden hora horas ora uur timme godzina hodina")
DATE = _words(
    "date dates datetime timestamp ds datum fecha data datestamp period tid paivamaara 日期 дата التاريخ تاريخ תאריך "
    "दिनांक 날짜 ngày tarih tanggal ημερομηνία ts"
)
DATE += ["date time", "obs date", "sample date", "sampling date", "observation date", "survey date"]
CLOCK = ["time", "time of day", "clock", "heure", "uhrzeit", "hora", "ora", "uur", *HOUR]
TIME = [
    *("time", "times", "t", "temps", "zeit", "tiempo", "tempo", "tijd", "tid", "czas", "aika", "время", "时间"),
    *("step", "steps", "timestep", "time step", "timepoint", "time point", "epoch", "generation", "minute", "minutes"),
    *(
        "second",
        "seconds",
        "sec",
        "secs",
        "elapsed",
        "elapsed time",
        "season year",
        "doy",
        "julian",
        "julian day",
        "unix",
        "unix time",
        "unixtime",
    ),
]
SEASON = _words("season saison temporada stagione jahreszeit seizoen sasong sezon сезон")
BESIDE_A_YEAR = {  # names that are parts of a date where a column of years stands beside them, and nothing elsewhere
    "month": {*MONTH, "mo", "mm", "mth"},
    "day": {*DAY, "dy", "dd"},
    "hour": {*HOUR, "hh"},
    "quarter": {*QUARTER, "q"},
    "week": {*WEEK, "wk", "kw", "kalenderwoche"},
    "day of the year": {"doy", "julian", "yday", "day of year", "dayofyear"},
}
US_WEEKS = {"mmwr", "cdc"}  # words of weeks that begin on Sundays, as those of health offices in the US do
ANY_TIME = {*YEAR, *MONTH, *QUARTER, *WEEK, *DAY, *HOUR, *DATE, *TIME}

ID = {
    *("entity", "country name", "region name", "state name", "county name", "station name", "site name"),
    *("id", "ids", "series", "series id", "unique id", "item id", "item", "key", "code"),
    *("variable", "parameter", "metric", "indicator", "indicator name", "measure", "analyte"),
    *("site", "sites", "site id", "plot", "plot id", "station", "station id", "unit", "unit id", "location", "loc"),
    *("region", "area", "zone", "lake", "river", "island", "country", "state", "county", "city", "store", "sensor"),
    *("species", "species name", "taxon", "population", "pop id", "main id", "strain", "colony", "tank", "microcosm"),
    *("subject", "subject id", "patient", "patient id", "individual", "animal", "replicate", "rep", "run", "group"),
    *(
        "treatment",
        "experiment",
        "trial",
        "cohort",
        "block",
        "batch",
        "sample",
        "sample id",
        "device",
        "machine",
        "channel",
        "ticker",
        "symbol",
        "name",
        "label",
    ),
    *("standort", "ort", "gebiet", "art", "nom", "nombre", "nome", "especie", "espece", "sitio", "sito", "lieu"),
    *("estacion", "stazione", "parcelle", "parcela", "pays", "pais", "land", "stad", "soort", "gatunek", "вид", "品种"),
}
NOT_COUNTED = {  # words of columns that go with a variable and seldom are one
    *(
        "se",
        "sd",
        "std",
        "stderr",
        "sem",
        "cv",
        "var",
        "variance",
        "err",
        "error",
        "ci",
        "lower",
        "upper",
        "lcl",
        "ucl",
    ),
    *("lat", "latitude", "lon", "long", "longitude", "altitude", "elevation", "easting", "northing"),
}
BACKWARDS = {"bp", "ago", "ka", "kyr", "ma", "b2k"}  # words of times that count back from the present
NUMBERED = {  # what has a number as its name: "catalogNumber"
    *("catalog", "catalogue", "record", "sample", "specimen", "serial", "row", "line", "accession", "field", "tag"),
    *("obs", "observation", "entry", "event", "survey", "reference", "ref", "order", "sequence"),
}
CORE_ID = {"id", "series", "series id", "unique id", "item id"}
ROW_NUMBER = {"", "index", "row", "row id", "rownames", "row names", "row number", "rowid", "x1", "no", "nr", "#", "n"}
ROW_NUMBER |= {"obs", "observation", "seq", "sequence", "serial", "sno", "s no", "sl no", "rownum"}
UNNAMED = re.compile(r"unnamed:? ?\d*( level \d+)?|column \d+|\.\.\.1")

MONTH_NAMES = {  # beginnings of the names of months, as `plain` gives them, in several languages
    1: _words("jan janv ene gen ian tammi sty led oca sijec янв січ ιαν"),
    2: _words("feb febr fev helmi lut uno sub velj фев лют φεβ"),
    3: _words("mar marz maerz marzo mars mrt maart maaliskuu bre ozuj мар бер μαρ"),
    4: _words("apr avr abr avril huhti kwi dub nis trav апр кві απρ"),
    5: _words("may mai mayo maggio mei maj touko kve svib маи мая тра μαι"),
    6: _words("jun juin giu kesa iun cze cerven cervna haz lipanj lipnj июн чер ιουν"),
    7: _words("jul juil lug iul heina lip cervenc cervenec tem srpanj srpnj июл лип ιουλ"),
    8: _words("aug aou ago elo sie srp agu kolo авг сер αυγ"),
    9: _words("sep sept set syys wrz zar eyl ruj szept сен вер σεπ"),
    10: _words("oct okt ott out loka paz rij eki окт жов οκτ"),
    11: _words("nov noi marras lis kas stud ноя лис νοε"),
    12: _words("dec dez dic joulu gru pro ara дек гру δεκ"),
}


def is_time(name: str) -> bool:
    """Whether a column's name says that it holds times."""
    words = plain(name)
    if words in ANY_TIME:
        return True
    first, _, last = words.partition(" ")[0], None, words.rpartition(" ")[2]
    units = {
        "utc",
        "gmt",
        "local",
        "cet",
        "ad",
        "ce",
        "bp",
        "s",
        "d",
        "h",
        "yr",
        "ms",
        "min",
        "index",
        "start",
        "begin",
    }
    dated = {*DATE, "datetime", "timestamp", "year"}
    return (first in ANY_TIME and last in units | ANY_TIME) or last in dated


def is_year(name: str) -> bool:
    """Whether a column's name says that it holds years."""
    return bool({*plain(name).split(" ")} & {*YEAR, *SEASON})


def is_season(name: str) -> bool:
    """Whether a column's name says that it holds seasons of a year."""
    return plain(name) in SEASON


def option(name: str, listed: bool = True) -> str:
    """A column's name as an option such as --columns takes it on a command line.

    listed: whether the option takes several names between commas.
    """
    if listed and any(sign in name for sign in ',"'):
        name = '"' + name.replace('"', '""') + '"'
    return name if re.fullmatch(r"[\w@%+=:./,\-]+", name) else shlex.quote(name)


def goes_with_another(name: str) -> bool:
    """Whether a column's name says that it holds errors, limits or places rather than a variable."""
    return plain(name).rpartition(" ")[2] in NOT_COUNTED


def is_nearly_time(name: str) -> bool:
    """Whether a column's name ends as that of a time does, such as "prey_time"."""
    return plain(name).rpartition(" ")[2] in {*YEAR, *MONTH, *WEEK, *DAY, *DATE, *TIME}


def is_id(name: str) -> bool:
    """Whether a column's name says that it tells series apart."""
    words = plain(name)
    return words in ID or words.endswith(" id") or words.endswith(" code")


def is_key(name: str) -> bool:
    """Whether a column's name says that its numbers are names, and count nothing."""
    words = plain(name).split(" ")
    if len(words) > 1 and words[0] in NUMBERED and words[-1] in {"number", "num", "nr"}:
        return True
    return words[-1] in {"id", "ids", "code", "key", "series", "no", "objectid", "fid", "record"}


def is_row_number(name: str) -> bool:
    """Whether a column has no name, or one that numbers rows."""
    words = plain(name)
    return words in ROW_NUMBER or UNNAMED.fullmatch(words) is not None


def month_number(text: str) -> int | None:
    """The number of a month that is named or abbreviated in one of several languages."""
    word = plain(text).rstrip(".")
    if len(word) < 3:
        return None
    found = [
        (len(start), number) for number, starts in MONTH_NAMES.items() for start in starts if word.startswith(start)
    ]
    return max(found)[1] if found else None
