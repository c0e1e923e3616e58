"""The limits that the nouns work within, and the upstream's origin, as the settings name them.

Where it stands in the walk: `app` hands each of them to its noun when it furnishes the rooms.
"""

import ssl

from proxy_core.contracts import RequestLimits
from proxy_core.exchange import Limits
from proxy_core.relay import RelayLimits
from proxy_core.settings import Settings
from proxy_core.upstream import Origin
from proxy_core.watch import Patience


def origin(settings: Settings) -> Origin:
    upstream = settings.upstream
    if not upstream.tls:
        return Origin(upstream.host, upstream.port)
    return Origin(upstream.host, upstream.port, ssl.create_default_context(cafile=settings.upstream_tls_ca_file))


def request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        target_max_bytes=settings.request_target_max_bytes,
        headers_max_bytes=settings.request_headers_max_bytes,
        headers_max_count=settings.request_headers_max_count,
        body_max_bytes=settings.request_body_max_bytes,
    )


def patience(settings: Settings) -> Patience:
    return Patience(
        upload_s=settings.request_body_idle_timeout_s,
        upload_bytes_per_s=settings.request_body_min_bytes_per_s,
        stall_s=settings.client_stall_timeout_s,
    )


def upstream_limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.upstream_connections,
        pool_wait_s=settings.upstream_pool_wait_s,
        connect_s=settings.upstream_connect_timeout_s,
        head_s=settings.upstream_head_timeout_s,
        idle_s=settings.upstream_idle_timeout_s,
        keepalive_s=settings.upstream_keepalive_s,
    )


def relay_limits(settings: Settings) -> RelayLimits:
    return RelayLimits(
        message_bytes=settings.websocket_message_max_bytes,
        handshake_s=settings.websocket_handshake_timeout_s,
        send_s=settings.upstream_idle_timeout_s,
    )
