"""Words of the archive, and of the page about this installation."""

MESSAGES: dict[str, tuple[str, str]] = {
    "nav.archive": ("Archive", "归档"),
    "archive.lead": (
        "Bindings that were unbound, or that nobody used for as long as the settings say.",
        "已解绑，或超过设定期限未使用的绑定。",
    ),
    "archive.cause": ("Why", "原因"),
    "archive.cause.unbound": ("Unbound", "已解绑"),
    "archive.cause.unused": ("Unused", "长期未用"),
    "archive.at": ("Archived", "归档时间"),
    "archive.restored": ("Restored", "是否恢复"),
    "archive.restored.true": ("restored", "已恢复"),
    "archive.restored.false": ("not restored", "未恢复"),
    "archive.any": ("Restored or not", "全部"),
    "archive.empty": ("Nothing here", "暂无归档"),
    "archive.empty.why": (
        "What is unbound lies here and can be restored, as long as nobody else owns the key by then.",
        "解绑的绑定会出现在这里，只要密钥尚未归他人所有即可恢复。",
    ),
    "bulk.restore": ("Restore", "恢复"),
    "bulk.restore.title": ("Restore {n} bindings?", "恢复 {n} 个绑定？"),
    "bulk.restore.title.one": ("Restore this binding?", "恢复此绑定？"),
    "bulk.restore.consequence": (
        "The keys belong to their old networks again. Where somebody else owns the key by now, nothing changes.",
        "密钥重新归属原网段。若密钥已归他人所有，则不做更改。",
    ),
    "bulk.restore.do": ("Restore {n} bindings", "恢复 {n} 个绑定"),
    "bulk.restore.do.one": ("Restore the binding", "恢复绑定"),
    "bulk.restore.done": ("Restored {n} bindings.", "已恢复 {n} 个绑定。"),
    "bulk.restore.done.one": ("Restored the binding.", "已恢复该绑定。"),
    "nav.about": ("First check", "首次检查"),
    "about.lead": (
        "Every binding stands on the address that Sentinel sees. Check it before you enforce.",
        "所有绑定都取决于 Sentinel 看到的地址。启用强制前请先确认。",
    ),
    "about.seen": ("How Sentinel sees you", "Sentinel 看到的您"),
    "about.hop.browser": ("You", "您"),
    "about.hop.proxy": ("Proxy", "代理"),
    "about.hop.header": ("says X-Real-IP", "提供 X-Real-IP"),
    "about.hop.sentinel": ("Sentinel", "Sentinel"),
    "about.hop.trusts": ("believes", "信任"),
    "about.hop.nobody": ("nobody", "无"),
    "about.trusted": ("believed", "受信任"),
    "about.untrusted": ("not believed", "不受信任"),
    "about.via": ("via {peer}", "经由 {peer}"),
    "about.direct": ("directly", "直接连接"),
    "about.is_right": (
        "Sentinel sees you as {address}, {via}: is that right?",
        "Sentinel 看到您的地址为 {address}（{via}），对吗？",
    ),
    "about.if_wrong": (
        (
            "If it is the address of your reverse proxy, all clients would count as one: name the proxy in "
            "SENTINEL_TRUSTED_PROXIES, and let it set X-Real-IP."
        ),
        "若显示的是反向代理的地址，所有客户端会被视为同一个：请将其加入 SENTINEL_TRUSTED_PROXIES 并设置 X-Real-IP。",
    ),
    "about.refused": (
        "A gateway would refuse this: {reason} ({detail}).",
        "网关会拒绝此请求：{reason}（{detail}）。",
    ),
    "about.next": ("Before you enforce", "启用强制之前"),
    "about.step.address": ("Your own address is the one shown above.", "上方显示的是您自己的地址。"),
    "about.step.gateway": ("A gateway reports.", "有网关在上报。"),
    "about.step.mode": (
        "The mode is enforce; look first at what it would refuse.",
        "模式为强制；请先查看它会拒绝什么。",
    ),
    "about.to_settings": ("Settings", "前往设置"),
    "about.done": ("done", "完成"),
    "about.to_do": ("to do", "待办"),
    "about.console": ("This console", "控制台版本"),
    "about.break_glass": ("Locked out?", "无法登录？"),
}
