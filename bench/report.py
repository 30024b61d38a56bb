"""Tables and plots from bench/results/*.json, and how benchmarks write these.

    python -m bench.report                  # markdown
    python -m bench.report --write          # writes it into bench/tables.md
    python -m bench.report --plot FOLDER    # frame_time.png, ttfa.png; needs matplotlib

It measures nothing, and knows of the benchmarks only the keys of their JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.command import parser_of

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE / "tables.md"
HEAD = """# Results of the benchmarks

Made by `python -m bench.report --write` from `bench/results`; do not edit it. [README.md](README.md) says what each
benchmark measures. Do not quote a figure without its machine.
"""

Json = dict[str, Any]
Column = tuple[str, Callable[[Json], object]]  # heading, value of a row


def write_result(result: Mapping[str, Any], out: Path | None) -> None:
    """Prints a benchmark's result as the last line of its output, and writes it to the file `out`, if there is one."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = parser_of("bench.report", __doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--write", action="store_true", help=f"write the tables into bench/{PAGE.name}")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw into this folder")
    options = parser.parse_args(arguments)
    results = read_results(options.results)
    if options.write:
        PAGE.write_text(page(results), encoding="utf-8")
    else:
        print(markdown(results))
    if options.plot is not None:
        return draw(results, options.plot)
    return 0


def read_results(folder: Path) -> dict[str, Json]:
    """The result files by name. Raises ValueError for a file that is no result of a benchmark."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if missing := {"benchmark", "device", "commit", "rows"} - set(result):
            raise ValueError(f"{path} has no {', '.join(sorted(missing))}: it is not a result of a benchmark.")
        results[path.name] = result
    return results


def markdown(results: dict[str, Json]) -> str:
    """One section per file."""
    return "\n\n".join(section(name, result) for name, result in results.items())


def page(results: dict[str, Json]) -> str:
    """All of bench/tables.md."""
    return f"{HEAD}\n{markdown(results)}\n"


def section(name: str, result: Json) -> str:
    columns = COLUMNS.get(result["benchmark"]) or generic_columns(result["rows"])
    facts = [f"{result['device']}; commit {result['commit']}; [`{name}`](results/{name})", *conditions(result)]
    return f"## {result['benchmark']}: {result['device']}\n\n" + ". ".join(facts) + ".\n\n" + table(columns, result)


def conditions(result: Json) -> Iterable[str]:
    """Sentences that belong to a table: shape, model, context, note."""
    if shape := result.get("shape"):
        yield f"Shape {shape}, {result.get('dtype')}"
    if model := result.get("model"):
        yield f"Model {model}, at most {'-'.join(f'{s:g}' for s in sorted(set(result['max_audio_s'])))} s of audio"
    if turns := result.get("context_turns"):
        yield f"{turns} turns of context"
    if sentences := result.get("sentences"):
        yield f"Texts of {sentences} sentences of at most 2 s each"
    for refusal in result.get("refusals") or ():
        if isinstance(refusal, dict):  # older results have counts
            yield refused(refusal)
    if note := result.get("note"):
        yield str(note).rstrip(".")


def refused(refusal: Json) -> str:
    """A sentence about a refused stream and the faults at that time. Seconds count from the refusal."""
    faults = [f"{f['fault']} {f['replica']} from {f['from_s']:g} to {f['until_s']:g} s" for f in refusal["faults"]]
    down, near = ", ".join(refusal["down"]) or "nothing", "; ".join(faults) or "no fault"
    return f"Refused: {refusal['stream']} with {refusal['reason']}; struck at that moment: {down} ({near})"


def table(columns: Sequence[Column], result: Json) -> str:
    lines = [[heading for heading, _ in columns], ["---:"] * len(columns)]
    lines += [[shown(value(row)) for _, value in columns] for row in result["rows"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def of(key: str, percentile: str = "") -> Callable[[Json], object]:
    """Reads a row's value, or one percentile of it."""

    def value(row: Json) -> object:
        found = row.get(key)
        return found.get(percentile) if percentile and found is not None else found

    return value


def percent(key: str) -> Callable[[Json], object]:
    def value(row: Json) -> object:
        return None if row[key] is None else f"{100 * row[key]:.0f} %"

    return value


def generic_columns(rows: Sequence[Json]) -> list[Column]:
    """A column for every key whose value is no list and no object."""
    return [(key, of(key)) for key, value in (rows[0] if rows else {}).items() if not isinstance(value, dict | list)]


COLUMNS: dict[str, list[Column]] = {
    "frame_step": [
        ("arm", of("arm")),
        ("batch", of("batch")),
        ("context", of("context")),
        ("ms per frame", of("frame_ms")),
        ("frames/s", of("frames_per_second")),
        ("real-time factor", of("real_time_factor")),
        ("% of floor", of("percent_of_floor")),
    ],
    "serving": [
        ("req/s", of("rate")),
        ("sent", of("sent")),
        ("refused", of("refused")),
        ("after p50 ms", of("refused_after_ms", "p50")),
        ("failed", of("failed")),
        ("held", of("max_in_flight")),
        ("TTFA p50 ms", of("ttfa_ms", "p50")),
        ("p95", of("ttfa_ms", "p95")),
        ("p99", of("ttfa_ms", "p99")),
        ("audible p95 ms", of("audible_ttfa_ms", "p95")),
        ("end to end p95 ms", of("end_to_end_ms", "p95")),
        ("RTF p50", of("rtf", "p50")),
        ("with underrun", percent("underrun_rate")),
        ("stalled s", of("stalled_s")),
        ("viable", percent("streaming_viability")),
        ("audio s/s", of("audio_s_per_s")),
        ("messages/s", of("messages_per_s")),
    ],
}


def draw(results: dict[str, Json], folder: Path) -> int:
    """Returns the exit code: 1 where there is no matplotlib."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        print("error: --plot needs matplotlib (pip install matplotlib)", file=sys.stderr)
        return 1
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    for name, benchmark, drawing in (
        ("frame_time.png", "frame_step", draw_frame_time),
        ("ttfa.png", "serving", draw_ttfa),
    ):
        of_kind = [result for result in results.values() if result["benchmark"] == benchmark and result["rows"]]
        if of_kind:
            save(folder / name, drawing, of_kind)
    return 0


def save(path: Path, drawing: Callable[[Any, Sequence[Json]], None], results: Sequence[Json]) -> None:
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    drawing(axes, results)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_frame_time(axes: Any, results: Sequence[Json]) -> None:
    """Milliseconds per frame against batch, one line per arm and context, and the floor under them."""
    for result in results:
        for arm, context in sorted({(row["arm"], row["context"]) for row in result["rows"]}):
            rows = [row for row in result["rows"] if (row["arm"], row["context"]) == (arm, context)]
            batches = [row["batch"] for row in rows]
            label = f"{arm}, {result['shape']}, context {context}, {result['device']}"
            axes.plot(batches, [row["frame_ms"] for row in rows], marker="o", label=label)
            if arm == "ours":
                floor_ms = [row["frame_ms"] * row["percent_of_floor"] / 100 for row in rows]
                axes.plot(batches, floor_ms, linestyle="--", color="grey", label=f"floor of {label}")
    axes.axhline(80, linestyle=":", color="black", label="real time: 80 ms")
    axes.set(xlabel="batch", ylabel="ms per frame", xscale="log", yscale="log", title="Frame time")


def draw_ttfa(axes: Any, results: Sequence[Json]) -> None:
    """Time to first audio against load: the median, and the 95th percentile dashed."""
    for result in results:
        rows = [row for row in result["rows"] if row["ttfa_ms"] is not None]
        rates = [row["rate"] for row in rows]
        label = f"{result['model']}, {result['context_turns']} turns of context, {result['device']}"
        (line,) = axes.plot(rates, [row["ttfa_ms"]["p50"] for row in rows], marker="o", label=f"p50: {label}")
        axes.plot(rates, [row["ttfa_ms"]["p95"] for row in rows], "o--", color=line.get_color(), label=f"p95: {label}")
    axes.set(xlabel="requests per second", ylabel="time to first audio, ms", title="Time to first audio against load")


if __name__ == "__main__":
    sys.exit(main())
