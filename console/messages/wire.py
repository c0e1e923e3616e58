"""Names of what the admin API answers in codes: reasons of refusals, rules of decisions."""

MESSAGES: dict[str, tuple[str, str]] = {
    "reason.invalid_api_key": ("Not a key", "密钥格式无效"),
    "reason.conflicting_credentials": ("Two different keys", "请求含不同密钥"),
    "reason.client_address_unknown": ("Address unknown", "无法确定来源地址"),
    "reason.malformed_request": ("Malformed request", "请求格式错误"),
    "reason.key_banned": ("Key banned", "密钥已封禁"),
    "reason.key_bound_to_other_address": ("Bound to another address", "密钥绑定于其他地址"),
    "reason.binding_store_unavailable": ("No store answers", "存储不可用"),
    "reason.upstream_unavailable": ("Upstream unavailable", "上游不可用"),
    "reason.upstream_timeout": ("Upstream too slow", "上游超时"),
    "reason.request_timeout": ("Upload gave up", "上传超时"),
    "reason.internal_error": ("Gateway failed", "网关内部错误"),
    "verdict.allow": ("Let through", "放行"),
    "verdict.observe": ("Let through and recorded", "放行并记录"),
    "verdict.refuse": ("Refused", "拒绝"),
    "rule.invalid_api_key": ("this is not a key in the upstream's grammar", "不符合上游的密钥格式"),
    "rule.first_use_binds": (
        "nobody owns the key: this use would bind it to the address",
        "密钥无归属：此次使用将绑定该地址",
    ),
    "rule.first_use_passes": (
        "nobody owns the key, and such a request does not bind",
        "密钥无归属，且此类请求不会绑定",
    ),
    "rule.key_banned": ("the key is banned", "密钥已封禁"),
    "rule.network_bound": ("the address lies inside one of the key's networks", "地址位于密钥的绑定网段内"),
    "rule.room_for_network": (
        "the address is new, and the key has room for another network: it would be learned",
        "地址未知，但密钥还可学习新网段：将被学习",
    ),
    "rule.room_but_not_learned": (
        "the address is new and there is room, but such a request does not teach",
        "地址未知且有余量，但此类请求不会学习",
    ),
    "rule.key_bound_to_other_address": (
        "the key is bound, and the address lies outside of its networks",
        "密钥已绑定，而地址不在其网段内",
    ),
}
