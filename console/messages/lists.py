"""Words that every filtered list has."""

MESSAGES: dict[str, tuple[str, str]] = {
    "list.none": ("Nothing matches these filters", "没有符合筛选条件的记录"),
    "list.none.why": ("Remove a filter, or look at a longer time.", "请移除筛选条件，或放宽时间范围。"),
    "range.any": ("Any time", "全部时间"),
    "range.1h": ("1 hour", "1 小时"),
    "range.between": ("Between two moments", "自定义时间"),
    "range.from": ("From (UTC)", "起始时间（UTC）"),
    "range.to": ("Before (UTC)", "截止时间（UTC）"),
}
