"""From a table to an answer: what becomes of hare and lynx after 1935, and how far is the forecast to be trusted?

    python examples/table_to_answer.py [TABLE]

Reads the pelts that ship with loracast unless another table is named, forecasts 20 years from its end with the bundled
model, answers three questions, and then asks the same model about years that are known.
"""

from __future__ import annotations

import sys
from pathlib import Path

import loracast

OUTPUT = Path("runs/examples")
QUESTIONS = ["lynx falls below 10 within 10 steps", "when hare > 60", "highest hare"]


def main() -> None:
    series = loracast.read_series(sys.argv[1])[0] if len(sys.argv) > 1 else loracast.lynx_hare()
    forecaster = loracast.Forecaster.from_pretrained("bundled")

    forecast = forecaster.predict(series, horizon=20)  # 100 joint sample paths
    questions = QUESTIONS if set(series.names) == {"hare", "lynx"} else [f"highest {name}" for name in series.targets]
    for outcome in forecast.events(questions):
        print(outcome.sentence)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    forecast.to_frame().to_csv(OUTPUT / "answer.csv", index=False)
    forecast.plot().savefig(OUTPUT / "answer.png", dpi=150)
    print(f"the table and the picture are in {OUTPUT}")

    # Each window reads 40 years and forecasts the next 10, which the table knows, beside naive forecasts.
    known = loracast.backtest({"bundled": forecaster}, [series], context=40, horizon=10)
    print(known.table().query("variable == 'all'")[["forecaster", "mae", "crps", "coverage_80"]].to_string(index=False))


if __name__ == "__main__":
    main()
