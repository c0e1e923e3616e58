"""One webhook: signed as Standard Webhooks says, sent to the address that was judged, and what can go wrong."""

import asyncio
import ipaddress
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from admin_api.alerts import signing, webhook
from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.webhook import Post
from admin_api.schemas.alerts import SendOutcome
from tests.support.receivers import Receiver, certificate, receiver

pytestmark = pytest.mark.anyio

ALL = PrivateTargets.ALL
NOW = datetime.now(UTC)


async def send(url: str, policy: PrivateTargets = ALL, *secrets: signing.Secret, **options):
    body = b'{"type":"test"}'
    return await webhook.post(
        Post(url, signing.headers("msg_1", int(time.time()), body, secrets), body), policy, **options
    )


def leads_to(*addresses: str):
    async def resolve(_host: str, _port: int):
        return [ipaddress.ip_address(address) for address in addresses]

    return resolve


async def test_a_message_arrives_as_json_and_its_signature_holds(there: Receiver):
    secret = signing.new_secret(NOW)
    result = await send(there.url, ALL, secret)
    assert (result.outcome, result.status) == (SendOutcome.DELIVERED, 204)
    [got] = there.received
    assert (got.path, got.headers["content-type"]) == ("/hook", "application/json; charset=utf-8")
    assert Webhook(secret.secret).verify(got.body, got.headers) == {"type": "test"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.secret).verify(got.body + b" ", got.headers)


async def test_while_secrets_change_both_verify_and_an_ended_one_does_not(there: Receiver):
    old = signing.new_secret(NOW)
    kept = signing.rotated([old], NOW, timedelta(hours=1))
    await send(there.url, ALL, *signing.live(signing.stored(kept), NOW))
    await send(there.url, ALL, *signing.live(signing.stored(kept), NOW + timedelta(hours=1)))
    both, after = there.received
    for secret in kept:
        Webhook(secret.secret).verify(both.body, both.headers)
    Webhook(kept[0].secret).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old.secret).verify(after.body, after.headers)


def test_no_more_than_two_secrets_are_live_however_often_one_rotates():
    kept = [signing.new_secret(NOW)]
    for _ in range(4):
        kept = signing.rotated(kept, NOW, timedelta(hours=1))
    assert len(kept) == 2
    assert len(signing.rotated(kept, NOW, timedelta(0))) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (200, SendOutcome.DELIVERED),
        (202, SendOutcome.DELIVERED),
        (301, SendOutcome.REDIRECT),
        (307, SendOutcome.REDIRECT),
        (401, SendOutcome.HTTP_ERROR),
        (410, SendOutcome.GONE),
        (429, SendOutcome.HTTP_ERROR),
        (500, SendOutcome.HTTP_ERROR),
    ],
)
async def test_each_answer_is_told_with_its_status(there: Receiver, answer: int, outcome: SendOutcome):
    there.answers = [answer]
    result = await send(there.url)
    assert (result.outcome, result.status) == (outcome, answer)


async def test_a_redirect_is_not_followed_wherever_it_leads(there: Receiver):
    there.answers = [302]
    for location in ("http://169.254.169.254/latest/meta-data/", there.url, "/elsewhere"):
        there.location = location
        assert (await send(there.url)).outcome is SendOutcome.REDIRECT
    assert [got.path for got in there.received] == ["/hook"] * 3


async def test_a_receiver_that_hangs_costs_no_more_than_the_limit(there: Receiver):
    there.answers = ["hang"]
    assert (await send(there.url, limit_s=0.3)).outcome is SendOutcome.TIMEOUT


async def test_a_name_that_nobody_answers_for_counts_towards_the_limit():
    async def silence(_host: str, _port: int):
        await asyncio.Event().wait()

    assert (await send("https://hooks.test/", resolve=silence, limit_s=0.1)).outcome is SendOutcome.TIMEOUT


async def test_a_name_that_leads_to_a_forbidden_address_is_not_sent_to(there: Receiver):
    """Not even if another of its addresses is good: one of the two is a trap."""
    url = f"http://hooks.test:{there.port}/"
    for addresses in (
        ["169.254.169.254"],
        ["127.0.0.1", "169.254.169.254"],
        ["::ffff:169.254.169.254"],
        ["fd00:ec2::254"],
        ["0.0.0.0"],
    ):
        assert (await send(url, resolve=leads_to(*addresses))).outcome is SendOutcome.REFUSED_ADDRESS, addresses
    assert there.received == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
async def test_loopback_is_refused_in_every_spelling_unless_it_is_allowed(there: Receiver, host: str):
    for policy in (PrivateTargets.REFUSE, PrivateTargets.PRIVATE):
        result = await send(f"http://{host}:{there.port}/", policy)
        assert result.outcome is SendOutcome.REFUSED_ADDRESS
    assert there.received == []


async def test_plain_http_goes_to_private_addresses_only():
    assert (await send("http://hooks.test/", resolve=leads_to("8.8.8.8"))).outcome is SendOutcome.HTTPS_REQUIRED


async def test_a_name_is_resolved_once_and_the_connection_goes_there(there: Receiver):
    """Whoever changes the name's address after the judgement reaches nobody with it; the Host header is kept."""
    asked = []

    async def resolve(host: str, port: int):
        asked.append((host, port))
        return [ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "169.254.169.254")]

    url = f"http://rebinding.test:{there.port}/"
    assert (await send(url, resolve=resolve)).outcome is SendOutcome.DELIVERED
    assert asked == [("rebinding.test", there.port)]
    assert there.received[0].headers["host"] == f"rebinding.test:{there.port}"
    assert (await send(url, resolve=resolve)).outcome is SendOutcome.REFUSED_ADDRESS


async def test_an_address_that_leads_nowhere_is_passed_over(there: Receiver):
    url = f"http://two.test:{there.port}/"
    assert (await send(url, resolve=leads_to("::1", "127.0.0.1"))).outcome is SendOutcome.DELIVERED


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(tmp_path: Path):
    made = certificate(tmp_path, "hooks.test")
    with receiver(made.server) as there:
        good = await send(f"https://hooks.test:{there.port}/", resolve=leads_to("127.0.0.1"), verify=made.client)
        other = await send(f"https://other.test:{there.port}/", resolve=leads_to("127.0.0.1"), verify=made.client)
        unknown = await send(f"https://hooks.test:{there.port}/", resolve=leads_to("127.0.0.1"))
    assert [result.outcome for result in (good, other, unknown)] == [
        SendOutcome.DELIVERED,
        SendOutcome.TLS_FAILED,
        SendOutcome.TLS_FAILED,
    ]
    assert len(there.received) == 1


async def test_proxies_of_the_environment_are_not_used(there: Receiver, monkeypatch: pytest.MonkeyPatch):
    """They would resolve the name by themselves."""
    with receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await send(there.url)).outcome is SendOutcome.DELIVERED
        assert proxy.received == []


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("http://127.0.0.1:9/", SendOutcome.CONNECT_FAILED),
        ("http://nowhere.invalid/", SendOutcome.UNRESOLVABLE),
        ("ftp://127.0.0.1/", SendOutcome.BAD_URL),
        ("http:///path", SendOutcome.BAD_URL),
        ("http://[::1/", SendOutcome.BAD_URL),
        ("http://127.0.0.1:99999/", SendOutcome.BAD_URL),
    ],
)
async def test_what_cannot_be_reached_is_told_by_its_kind(url: str, outcome: SendOutcome):
    assert (await send(url)).outcome is outcome


def test_nothing_secret_is_printed():
    secret = signing.new_secret(NOW)
    assert secret.secret not in repr(secret)
    assert "token" not in repr(Post("https://hooks.test/token", {}, b""))
