"""Why a region is worth a look, in one sentence."""

from ..regions.region import Competition, Kind, Region, Shape

HIGH_FROM, LOW_UNTIL = 75.0, 25.0
"""Percentiles of the calibration cases' uncertain voxels from which uncertainty is called high, and until which low."""
MOST_COMPETING = 2
"""Ways of being wrong that are told; the rest is small."""
SHAPES = {Shape.THIN: "thin boundary", Shape.BLOB: "a thick blob"}


def why(region: Region, region_of_interest: bool = False) -> str:
    """Say what may be wrong in a region and what makes it uncertain.

    Args:
        region_of_interest: only a part of the image was segmented, so that an edge is that part's.
    """
    edge = "region of interest" if region_of_interest else "image"
    parts = [_what(region), SHAPES[region.shape], *_uncertainty(region)]
    if region.touches_border:
        parts.append(f"touches the edge of the {edge}: the structure may go on outside")
    return "; ".join(parts)


def _what(region: Region) -> str:
    name, ways = region.structure, region.competing[:MOST_COMPETING]
    if region.kind is Kind.MISSED:
        return f"{name} may be missing here{_details(ways, 'read as {read_as}')}"
    if region.kind is Kind.EXTRA:
        return f"{name} may reach too far here{_details(ways, 'may be {truth}')}"
    if region.kind is Kind.CONFUSION and ways:
        pair = f"{ways[0].truth} and {ways[0].read_as}"
        return f"{pair} may be confused here{_details(ways, 'may be {truth} read as {read_as}')}"
    return f"the boundary of {name} may lie elsewhere{_details(ways, 'may be {truth} read as {read_as}')}"


def _details(ways: tuple[Competition, ...], words: str) -> str:
    told = [
        f"{_percent(way.share)} {words.format(truth=way.truth, read_as=way.read_as)}" for way in ways if way.share > 0
    ]
    return f": {', '.join(told)}" if told else ""


def _percent(share: float) -> str:
    """A share; "under 1 %" rather than a nought that is none."""
    return f"{share * 100:.0f} %" if share >= 0.005 else "under 1 %"


def _uncertainty(region: Region) -> list[str]:
    """What is known of model and data uncertainty, the model's first."""
    known = (("model", region.model_percentile), ("data", region.data_percentile))
    return [
        f"{source} uncertainty is {_level(percentile)} ({_ordinal(percentile)} percentile of calibration cases)"
        for source, percentile in known
        if percentile is not None
    ]


def _level(percentile: float) -> str:
    return "high" if percentile >= HIGH_FROM else "low" if percentile < LOW_UNTIL else "usual"


def _ordinal(percentile: float) -> str:
    """As in "94th"; never the 0th or the 100th, which are none."""
    number = min(99, max(1, int(percentile)))
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
