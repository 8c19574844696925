"""Say which variant to take: the fastest that keeps the metric, and the best within a latency."""

from __future__ import annotations

from collections.abc import Sequence

from tlvision.compress.measure import Variant


def pareto(rows: Sequence[Variant]) -> list[Variant]:
    """Return the variants that no other one beats in both metric and latency, from fast to slow.

    Variants without a value or a latency are left out.
    """
    found = []
    for row in rows:
        if row.value is None or row.latency is None:
            continue
        mine = (row.latency.median, row.value)
        beaten = any(
            other is not row
            and other.value is not None
            and other.latency is not None
            and other.latency.median <= mine[0]
            and other.value >= mine[1]
            and (other.latency.median, other.value) != mine
            for other in rows
        )
        if not beaten:
            found.append(row)
    return sorted(found, key=lambda row: row.latency.median if row.latency is not None else 0.0)


def advice(rows: Sequence[Variant], max_drop: float, budget: float | None) -> list[str]:
    """Return sentences: the fastest variant that loses at most `max_drop`, and the best one within the budget.

    rows:   the first is the run itself. budget: milliseconds that an image may take; None for no limit.
    """
    reference = rows[0].value
    if reference is None:
        return ["The metric of the run is not measured, so no variant can be recommended."]
    timed = [row for row in rows if row.value is not None and row.latency is not None]
    keeping = [row for row in timed if row.value is not None and reference - row.value <= max_drop]
    sentences = []
    if keeping:
        fastest = min(keeping, key=_latency)
        sentences.append(
            f"The fastest that loses at most {max_drop:g}: {fastest.name}, {_latency(fastest):.1f} ms, "
            f"{reference - (fastest.value or 0.0):.4f} lost{_certain(fastest, max_drop)}."
        )
    if budget is not None:
        within = [row for row in timed if _latency(row) <= budget]
        if within:
            best = max(within, key=lambda row: row.value or 0.0)
            sentences.append(f"The best within {budget:g} ms: {best.name}, {best.value:.4f}, {_latency(best):.1f} ms.")
        else:
            fastest = min(timed, key=_latency)
            sentences.append(
                f"No variant needs {budget:g} ms or less; the fastest is {fastest.name} with {_latency(fastest):.1f} "
                "ms. Try a smaller network input (data.image_size) or model."
            )
    return sentences


def _latency(row: Variant) -> float:
    return row.latency.median if row.latency is not None else float("inf")


def _certain(row: Variant, max_drop: float) -> str:
    """Return, in parentheses, whether the interval of the loss leaves doubt."""
    if row.drop_low is None or row.drop_high is None:
        return ""
    doubt = f"; more than {max_drop:g} is possible" if row.drop_high > max_drop else ""
    return f" (95 % interval {row.drop_low:.4f} to {row.drop_high:.4f}{doubt})"
