"""The chart over time: ECharts, which NiceGUI brings along, in the colours of the theme that is shown.

A drag over it chooses a range. For those who do not see it, the chart describes itself (``aria``), and the figures of
the whole range stand beside it in words.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
from nicegui import ui
from nicegui.events import GenericEventArguments


class Series(msgspec.Struct, frozen=True):
    """``colour``: a variable of the stylesheet. One value for each moment, None where nothing is known."""

    name: str
    colour: str
    values: Sequence[int | None]


def over_time(
    label: str, moments: Sequence[datetime], series: Sequence[Series], chosen: Callable[[datetime, datetime], None]
) -> ui.echart:
    """Bars; ``chosen`` gets the two ends of what was dragged over."""
    times = [int(at.timestamp() * 1000) for at in moments]
    options = {
        "aria": {"enabled": True, "label": {"description": label}},
        "animation": False,
        "grid": {"left": 8, "right": 8, "top": 36, "bottom": 8, "containLabel": True},
        "legend": {"left": 0, "top": 0, "icon": "roundRect", "itemWidth": 10, "itemHeight": 10, "textStyle": _ink()},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "renderMode": "richText"},
        "xAxis": {"type": "time", "axisLabel": _ink(), "axisLine": _line(), "splitLine": {"show": False}},
        "yAxis": {"type": "value", "minInterval": 1, "axisLabel": _ink(), "splitLine": _line()},
        "brush": {"xAxisIndex": 0, "brushType": "lineX", "brushMode": "single", "transformable": False},
        "toolbox": {"show": False},
        "series": [
            {
                "name": each.name,
                "type": "bar",
                "barMaxWidth": 24,
                "barGap": "-100%" if place else "0%",
                "itemStyle": {":color": _variable(each.colour), "borderRadius": [2, 2, 0, 0]},
                "data": [[at, value] for at, value in zip(times, each.values, strict=True)],
            }
            for place, each in enumerate(series)
        ],
    }
    chart = ui.echart(options, renderer="svg").classes("chart")
    chart.props["role"] = "img"
    chart.props["aria-label"] = label
    chart.on("chart:brushEnd", lambda event: _dragged(event, chosen), ["areas"])
    cursor = {"type": "takeGlobalCursor", "key": "brush", "brushOption": {"brushType": "lineX", "brushMode": "single"}}
    chart.on("chart:finished", lambda: chart.run_chart_method("dispatchAction", cursor), [], throttle=3600)
    return chart


def _dragged(event: GenericEventArguments, chosen: Callable[[datetime, datetime], None]) -> None:
    areas = event.args.get("areas") or []
    if areas:
        begin, end = areas[0]["coordRange"]
        chosen(datetime.fromtimestamp(begin / 1000, UTC), datetime.fromtimestamp(end / 1000, UTC))


def _variable(name: str) -> str:
    return f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()"


def _ink() -> dict[str, str]:
    return {":color": _variable("--muted")}


def _line() -> dict[str, dict[str, str]]:
    return {"lineStyle": {":color": _variable("--line")}}
