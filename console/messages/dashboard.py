"""Words of the dashboard."""

MESSAGES: dict[str, tuple[str, str]] = {
    "nav.dashboard": ("Dashboard", "概览"),
    "dashboard.lead": ("Today since midnight UTC, from all gateways.", "今日数据自 UTC 零点起，汇总所有网关。"),
    "dashboard.requests": ("Requests", "请求"),
    "dashboard.refused": ("Refused", "拒绝"),
    "dashboard.observed": ("Observed", "观察到"),
    "dashboard.observed.why": ("would be refused if enforced", "强制模式下会被拒绝"),
    "dashboard.bound": ("Keys bound", "新绑定密钥"),
    "dashboard.passed": ("{n} let through", "放行 {n}"),
    "dashboard.bindings": ("Bindings", "绑定总数"),
    "dashboard.banned": ("{n} banned", "封禁 {n}"),
    "dashboard.archived": ("{n} archived", "归档 {n}"),
    "dashboard.about": ("≈{n}", "约 {n}"),
    "dashboard.unbound": ("{n} without an owner", "无归属 {n}"),
    "dashboard.unknown": ("unknown", "未知"),
    "dashboard.traffic": ("Requests and intercepts", "请求与拦截"),
    "dashboard.traffic.partial": ("The last interval is still going on.", "最后一个时段尚未结束。"),
    "dashboard.traffic.none": ("No figures in this range yet", "此时段暂无数据"),
    "dashboard.traffic.none.why": (
        "Gateways deliver them once a minute, and hours are kept for 400 days.",
        "网关每分钟上报一次，小时数据保留 400 天。",
    ),
    "dashboard.zoom": ("Drag over the chart to look closer.", "在图上拖动可放大。"),
    "dashboard.zoomed_out": ("Whole range", "恢复完整时段"),
    "dashboard.intercepted": ("Intercepted", "拦截"),
    "dashboard.range": ("Range", "时段"),
    "range.24h": ("24 hours", "24 小时"),
    "range.7d": ("7 days", "7 天"),
    "range.30d": ("30 days", "30 天"),
    "range.90d": ("90 days", "90 天"),
    "dashboard.most": ("Most intercepted, last 24 hours", "24 小时内拦截最多"),
    "dashboard.most.none": ("Nothing was intercepted in the last 24 hours.", "24 小时内没有拦截。"),
    "dashboard.newest": ("Newest bindings", "最新绑定"),
    "dashboard.newest.none": ("No key is bound yet.", "还没有绑定任何密钥。"),
    "dashboard.last": ("Last", "最近"),
    "dashboard.gateways": ("Gateways", "网关"),
    "dashboard.gateways.none": ("No gateway has reported in the last hour.", "最近一小时没有网关上报。"),
    "dashboard.gateway": ("Gateway", "网关"),
    "dashboard.state": ("State", "状态"),
    "dashboard.workers": ("Workers", "进程"),
    "dashboard.open": ("Open requests", "进行中请求"),
    "dashboard.lag": ("Records on their way", "待入库记录"),
    "dashboard.version": ("Version", "版本"),
    "dashboard.seen": ("Last seen", "最近心跳"),
    "gateway.alive": ("Running", "运行中"),
    "gateway.gone": ("Gone", "失联"),
    "gateway.degraded": ("Running, a store is away", "运行中，存储不可用"),
    "degraded.redis": (
        (
            "Redis does not answer. Bindings are enforced from memory and PostgreSQL; changes reach gateways "
            "within seconds instead of at once; records wait in each gateway's spool. Today's figures are unknown."
        ),
        "Redis 无响应。绑定仍由内存与 PostgreSQL 执行；管理变更会延迟数秒生效；记录暂存于各网关。今日数据未知。",
    ),
    "degraded.postgresql": (
        (
            "PostgreSQL does not answer. Keys that gateways or Redis remember are enforced as before; for all others "
            "the failsafe setting decides: closed refuses them with 503, open lets them through. "
            "Nothing can be changed now."
        ),
        (
            "PostgreSQL 无响应。网关或 Redis 记得的密钥照常执行；其余由故障策略决定：closed 返回 503 拒绝，open 放行。"
            "此时无法修改任何内容。"
        ),
    ),
    "degraded.both": (
        (
            "Neither Redis nor PostgreSQL answers. Gateways enforce what they have in memory; for all other keys the "
            "failsafe setting decides: closed refuses them with 503, open lets them through."
        ),
        "Redis 与 PostgreSQL 均无响应。网关仅按内存执行；其余密钥由故障策略决定：closed 返回 503 拒绝，open 放行。",
    ),
    "degraded.gateways": (
        "No gateway reports. Either none runs, so that no request passes at all, or Redis has lost their heartbeats.",
        "没有网关上报。可能没有网关在运行（所有请求都无法通过），或 Redis 丢失了心跳。",
    ),
    "degraded.some_gateways": (
        "{gone} of {known} gateways have stopped reporting. The others enforce as before.",
        "{known} 个网关中有 {gone} 个停止上报，其余照常执行。",
    ),
}
