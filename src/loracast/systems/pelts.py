"""The real series that ships with the package."""

from importlib import resources

from loracast.series import Series, read_series


def lynx_hare() -> Series:
    """Hare and lynx pelts, thousands a year, 1845–1935, from the fur returns of the Hudson's Bay Company.

    Source: the `pelt` table of tsibbledata, after MacLulich (1937) and Elton & Nicholson (1942).

    Examples:
        >>> loracast.lynx_hare()
        Series('lynx_hare_1845_1935', 91 steps × hare, lynx, 1845 to 1935)
    """
    with resources.as_file(resources.files("loracast") / "data" / "lynx_hare_1845_1935.csv") as path:
        return read_series(path)[0]
