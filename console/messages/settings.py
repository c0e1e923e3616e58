"""Words of the live settings."""

MESSAGES: dict[str, tuple[str, str]] = {
    "nav.settings": ("Settings", "设置"),
    "settings.initial": (
        "Nothing was changed here yet: the values of the environment are in force.",
        "尚未在此修改：当前使用环境变量中的值。",
    ),
    "settings.version": ("Version {version}, by {name}", "第 {version} 版，修改者 {name}"),
    "settings.readonly": ("Your role may look at the settings, not change them.", "您的角色只能查看设置。"),
    "settings.save": ("Save", "保存"),
    "settings.confirm": ("Change the settings of every gateway?", "修改所有网关的设置？"),
    "settings.unchanged": ("Nothing was changed.", "没有更改。"),
    "settings.invalid": ("This cannot be saved. {fault}", "无法保存。{fault}"),
    "settings.out_of_range": ("a whole number from {low} to {high}", "应为 {low} 至 {high} 的整数"),
    "settings.no_url": (
        "an http or https URL with a host, such as https://hooks.example.com/x, or nothing",
        "应为带主机名的 http 或 https 地址，例如 https://hooks.example.com/x，或留空",
    ),
    "settings.enforcing": ("Enforcing", "执行策略"),
    "settings.binding": ("Binding", "绑定策略"),
    "settings.limiting": ("Limiting", "并发限制"),
    "settings.keeping": ("Keeping", "数据保留"),
    "settings.alerting": ("Alerting", "告警"),
    "settings.history": ("History", "历史版本"),
    "settings.number": ("Version", "版本"),
    "settings.at": ("When", "时间"),
    "settings.by": ("By", "修改者"),
    "settings.what": ("What", "内容"),
    "settings.first": ("first stored", "首次保存"),
    "impact.show": ("What would enforcing refuse?", "强制模式会拒绝什么？"),
    "impact.lead": ("Of the last 7 days, by what keys are bound to now.", "按当前绑定评估最近 7 天的请求。"),
    "impact.addresses": ("Addresses", "地址数"),
    "impact.nothing": (
        "Enforcing would have refused nothing that observe mode let through in the last {days} days.",
        "最近 {days} 天内观察模式放行的请求，强制模式下都不会被拒绝。",
    ),
    "impact.would": (
        (
            "Enforcing would have refused {requests} requests of {keys} keys from {addresses} addresses "
            "in the last {days} days."
        ),
        "最近 {days} 天内，强制模式会拒绝 {keys} 个密钥、{addresses} 个地址的 {requests} 个请求。",
    ),
    "impact.estimated": ("Only the newest were looked at; there are more.", "仅统计了最新的记录，实际更多。"),
    "setting.mode": ("Mode", "模式"),
    "setting.mode.what": (
        "Whether a key that is used from elsewhere is refused, or let through and recorded. Keys can have their own.",
        "密钥在其他地址使用时，是拒绝，还是放行并记录。单个密钥可单独设置。",
    ),
    "setting.mode.enforce": ("Enforce", "强制"),
    "setting.mode.observe": ("Observe", "观察"),
    "setting.failsafe": ("When no store answers", "存储不可用时"),
    "setting.failsafe.what": (
        "What happens to keys that nothing in memory knows while no store can tell who owns them.",
        "所有存储都无法判断归属时，如何处理内存中没有的密钥。",
    ),
    "setting.failsafe.closed": ("Closed: refuse with 503", "关闭：返回 503 拒绝"),
    "setting.failsafe.open": ("Open: let through", "开放：放行"),
    "setting.bind_on": ("A key is bound", "何时绑定"),
    "setting.bind_on.what": (
        "When the upstream has accepted it, so that invented keys are never stored; or when it first arrives.",
        "上游接受后再绑定，伪造的密钥不会入库；或首次到达时立即绑定。",
    ),
    "setting.bind_on.accepted": ("When the upstream accepted it", "上游接受后"),
    "setting.bind_on.first_use": ("When it arrives", "首次到达时"),
    "setting.bind_methods": ("Requests that may bind", "可触发绑定的请求"),
    "setting.bind_methods.what": (
        "Any, or only those that generate (POST and WebSocket), so that listing models binds nothing.",
        "任意请求，或仅生成类请求（POST 与 WebSocket），这样列出模型不会触发绑定。",
    ),
    "setting.bind_methods.any": ("Any", "任意"),
    "setting.bind_methods.generating": ("Generating ones", "仅生成类"),
    "setting.ipv4_prefix": ("IPv4 prefix", "IPv4 前缀"),
    "setting.ipv4_prefix.what": (
        "Size of the network that a first use over IPv4 binds; 32 is the address alone. From 8 to 32.",
        "首次使用 IPv4 时绑定的网段大小，32 表示仅该地址。范围 8 至 32。",
    ),
    "setting.ipv6_prefix": ("IPv6 prefix", "IPv6 前缀"),
    "setting.ipv6_prefix.what": (
        "The same over IPv6; 64 is what one customer usually has. From 32 to 128.",
        "首次使用 IPv6 时绑定的网段大小，64 通常对应一个用户。范围 32 至 128。",
    ),
    "setting.networks_per_key": ("Networks per key", "每个密钥的网段数"),
    "setting.networks_per_key.what": (
        "While a key has fewer, an unseen network is learned instead of refused. 1: the first only. Up to 64.",
        "未达到此数量时，新网段会被学习而非拒绝。1 表示仅首个网段，最多 64。",
    ),
    "setting.cut_on_revocation": ("Running streams of a revoked key", "失效密钥的进行中流式响应"),
    "setting.cut_on_revocation.what": (
        (
            "When a key is banned, released or bound elsewhere, its WebSockets are closed; its running streams are "
            "finished or broken off."
        ),
        "密钥被封禁、解绑或改绑时，其 WebSocket 会被关闭；进行中的流式响应可以继续完成，也可以立即中断。",
    ),
    "setting.cut_on_revocation.false": ("Finish", "继续完成"),
    "setting.cut_on_revocation.true": ("Break off", "立即中断"),
    "setting.max_concurrent_per_key": ("Open requests per key", "每个密钥的并发请求数"),
    "setting.max_concurrent_per_key.what": (
        "How many requests of one key may be open at once, over all gateways. More are answered with 429.",
        "同一密钥在所有网关上同时进行的请求数上限，超出部分返回 429。",
    ),
    "setting.max_concurrent_per_key.zero": ("0: no limit.", "0：不限制。"),
    "setting.max_concurrent_per_address": ("Open requests per address", "每个地址的并发请求数"),
    "setting.max_concurrent_per_address.what": (
        "How many requests from one address may be open at once, over all gateways. More are answered with 429.",
        "同一地址在所有网关上同时进行的请求数上限，超出部分返回 429。",
    ),
    "setting.max_concurrent_per_address.zero": ("0: no limit.", "0：不限制。"),
    "setting.archive_days": ("Archive after days", "归档天数"),
    "setting.archive_days.what": (
        "Days without use after which a binding moves into the archive; the key's next use binds it anew.",
        "绑定未使用超过此天数后移入归档，密钥再次使用时重新绑定。",
    ),
    "setting.archive_days.zero": ("0: never.", "0：从不归档。"),
    "setting.log_retention_days": ("Keep intercepts for days", "拦截记录保留天数"),
    "setting.log_retention_days.what": ("Older ones are dropped, a month at a time.", "更早的记录按月删除。"),
    "setting.log_retention_days.zero": ("0: for ever.", "0：永久保留。"),
    "setting.alert_threshold_count": ("Intercepts that raise an alert", "告警阈值（次）"),
    "setting.alert_threshold_count.what": (
        "So many of one key within the window below.",
        "同一密钥在下述时间窗内的拦截次数。",
    ),
    "setting.alert_threshold_count.zero": ("0: no alerts.", "0：不告警。"),
    "setting.alert_threshold_s": ("Window in seconds", "时间窗（秒）"),
    "setting.alert_threshold_s.what": ("Length of that window. From 1 to 86,400.", "时间窗长度，1 至 86,400。"),
    "setting.alert_cooldown_s": ("Quiet time in seconds", "静默时间（秒）"),
    "setting.alert_cooldown_s.what": (
        "After an alert, the same key raises no other for so long.",
        "告警后，同一密钥在此时间内不再告警。",
    ),
    "setting.alert_cooldown_s.zero": ("0: none.", "0：不静默。"),
    "setting.alert_webhook_url": ("Webhook", "Webhook"),
    "setting.alert_webhook_url.what": (
        "Where alerts are posted: an http or https URL. Empty: nowhere. Other roles see its host only.",
        "告警发送地址，http 或 https。留空则不发送。其他角色仅能看到主机名。",
    ),
}
