"""Problems of the admin API, by their code. A test holds these to `admin_api.errors`."""

MESSAGES: dict[str, tuple[str, str]] = {
    "problem.invalid_input": ("The input is not valid.", "输入无效。"),
    "problem.not_authenticated": ("Sign in first.", "请先登录。"),
    "problem.wrong_credentials": ("Name or password is wrong.", "用户名或密码错误。"),
    "problem.not_allowed": ("Your role does not allow this.", "您的角色无权执行此操作。"),
    "problem.not_found": ("There is no such thing (any more).", "对象不存在（或已被删除）。"),
    "problem.stale_version": (
        "Somebody changed it meanwhile. Look at what is there now, then decide.",
        "其他人刚刚修改过。请查看当前内容后再决定。",
    ),
    "problem.conflict": ("Not possible as things are.", "当前状态下无法执行。"),
    "problem.too_many_attempts": ("Too many attempts.", "尝试次数过多。"),
    "problem.store_unavailable": (
        "A store does not answer ({store}). Nothing was changed.",
        "存储无响应（{store}）。未做任何更改。",
    ),
    "problem.internal_error": ("The server failed. Its log says why.", "服务器出错，原因见其日志。"),
    "problem.method_not_allowed": ("The server does not do this.", "服务器不支持此操作。"),
    "problem.too_large": ("That is too large.", "内容过大。"),
    "problem.unsupported_media_type": ("The server does not take this format.", "服务器不接受此格式。"),
    "problem.unreachable": (
        "The admin API does not answer. Gateways go on without it; what they enforce stays as it is.",
        "管理 API 无响应。网关不受影响，当前策略照常执行。",
    ),
    "problem.unreadable_answer": (
        "The answer is not one of the admin API. Does SENTINEL_ADMIN_API_URL lead there?",
        "收到的应答不是来自管理 API。请检查 SENTINEL_ADMIN_API_URL。",
    ),
}
