"""compose.yaml: valid, and as tight as README.md says. No engine is needed to see that."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy_core.settings import Settings
from tests.support import settings_docs

ROOT = Path(__file__).parents[2]
OURS = ("gateway-1", "gateway-2", "admin", "console", "worker", "migrate")
GATEWAYS = ("gateway-1", "gateway-2")
SECRETS = ("SENTINEL_HMAC_SECRET", "ADMIN_JWT_SECRET", "ADMIN_PASSWORD", "PG_DSN", "REDIS_URL", "POSTGRES_PASSWORD")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = compose["services"]
    return read


def networks_of(service: dict[str, Any]) -> set[str]:
    return set(service["networks"])


def test_it_follows_the_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_nginx_has_open_ports(services):
    assert [name for name, service in services.items() if "ports" in service or "network_mode" in service] == ["nginx"]


def test_new_api_is_reached_by_the_gateways_alone(compose, services):
    """Its other network leads out, and holds nobody whom a client can reach."""
    assert compose["networks"]["upstream"]["internal"]
    assert {name for name, service in services.items() if "upstream" in service["networks"]} == {*GATEWAYS, "new-api"}
    assert {name for name, service in services.items() if "internet" in service["networks"]} == {"worker", "new-api"}
    assert networks_of(services["worker"]).isdisjoint({"front", "edge"})


def test_stores_and_processes_meet_only_where_they_must(compose, services):
    for name in ("front", "stores", "upstream"):
        assert compose["networks"][name]["internal"], name
    assert networks_of(services["nginx"]) == {"edge", "front"}
    assert networks_of(services["console"]) == {"front"}
    assert networks_of(services["postgres"]) == networks_of(services["valkey"]) == {"stores"}


def test_each_waits_until_what_it_needs_is_healthy(services):
    for name in (*GATEWAYS, "admin", "worker"):
        assert {each: given["condition"] for each, given in services[name]["depends_on"].items()} == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "valkey": "service_healthy",
        }
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert set(services["nginx"]["depends_on"]) == {*GATEWAYS, "admin", "console"}
    needed = {each for service in services.values() for each, given in service.get("depends_on", {}).items()
              if given["condition"] == "service_healthy"}  # fmt: skip
    for name in needed - {*GATEWAYS, "admin"}:  # those have the image's
        assert services[name]["healthcheck"]["test"], name
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_our_processes_can_write_nowhere_and_do_nothing_special(services):
    for name in OURS:
        assert services[name]["read_only"], name
        assert services[name]["cap_drop"] == ["ALL"], name
        assert services[name]["image"] == "key-ip-sentinel", name
    assert "0:" not in re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[-1]


def test_no_image_changes_by_itself(services):
    """But for the rebuilds of one version; Python's base stays at its Debian."""
    for name, service in services.items():
        if name not in OURS:
            assert re.search(r":v?\d+\.\d+\.?\d*(-rc\.\d+)?$", service["image"]), name
    stages = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(stages) == {"python:3.13-slim-trixie"}


def test_descriptors_and_time_to_stop_suffice(services):
    """nginx cannot raise its limit here, and a gateway that is stopped may take as long as its settings say."""
    wanted = re.search(r"^worker_rlimit_nofile (\d+);", (ROOT / "nginx/nginx.conf").read_text("utf-8"), re.MULTILINE)
    assert wanted is not None
    assert services["nginx"]["ulimits"]["nofile"] >= int(wanted[1])
    fields = Settings.model_fields
    assert services["gateway-1"]["ulimits"]["nofile"] >= 2 * fields["upstream_connections"].default
    longest_s = fields["drain_notice_s"].default + fields["drain_timeout_s"].default
    for name in (*OURS, "nginx"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > longest_s + 10, name


def test_every_variable_is_a_setting(services):
    known = {row.variable for row in settings_docs.rows()} | {"POSTGRES_PASSWORD"}
    for name in OURS:
        assert set(services[name]["environment"]) <= known, name


def test_secrets_come_from_env_and_reach_who_needs_them(services):
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for variable in re.findall(r"\$\{(\w+)", text):
        assert re.search(rf"^#?{variable}=", example, re.MULTILINE), variable
    for name in ("nginx", "valkey", "new-api"):
        assert "env_file" not in services[name]
    assert all(services["console"]["environment"][secret] == "" for secret in SECRETS)
    for name in GATEWAYS:
        assert (
            services[name]["environment"]["ADMIN_JWT_SECRET"] == services[name]["environment"]["ADMIN_PASSWORD"] == ""
        )


def test_valkey_forgets_nothing(services):
    command = services["valkey"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"
    assert services["valkey"]["volumes"]
    assert services["postgres"]["volumes"]


def test_addresses_are_those_that_nginx_and_the_trust_name(services):
    """nginx alone is believed by the gateways, and it finds them where they are."""
    address = {
        name: service["networks"]["front"]["ipv4_address"]
        for name, service in services.items()
        if "front" in service["networks"]
    }
    for name in GATEWAYS:
        assert services[name]["environment"]["SENTINEL_TRUSTED_PROXIES"] == address["nginx"]
    trusted = services["admin"]["environment"]["SENTINEL_TRUSTED_PROXIES"].split()
    assert trusted == [address["nginx"], address["console"]]
    upstreams = (ROOT / "nginx/compose/gateways.conf").read_text(encoding="utf-8")
    assert re.findall(r"server (\S+?)[ ;]", upstreams) == [
        f"{address['gateway-1']}:7000", f"{address['gateway-2']}:7000", f"{address['admin']}:7000",
        f"{address['console']}:7080",
    ]  # fmt: skip


def test_both_lists_of_gateways_say_the_same_but_for_addresses() -> None:
    def directives(path: str) -> list[str]:
        text = re.sub(r"#.*", "", (ROOT / path).read_text(encoding="utf-8"))
        return re.sub(r"server [\d.]+:\d+", "server", text).split()

    assert directives("nginx/compose/gateways.conf") == directives("nginx/sentinel/gateways.conf")
