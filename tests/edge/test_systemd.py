"""systemd/ and the README's way on Debian: units, ports and paths that agree with the command and with nginx/."""

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy_core.settings import Settings
from sentinel.cli import group

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
GATEWAYS_CONF = (ROOT / "nginx/sentinel/gateways.conf").read_text(encoding="utf-8")


def service(path: Path) -> dict[str, str]:
    """A unit's section [Service]; of a line that stands twice the last."""
    read = configparser.RawConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(path, encoding="utf-8")
    return dict(read["Service"])


def variables(unit: dict[str, str]) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(unit.get("Environment", "")))


def production() -> str:
    found = re.search(r"<!-- production on Debian:[^>]*-->\n```bash\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_what_there_is_and_stops_it_in_order(path: Path) -> None:
    unit = service(path)
    program, *arguments = shlex.split(unit["ExecStart"])
    assert program == "/opt/sentinel/.venv/bin/sentinel"
    said = CliRunner().invoke(group, [*arguments, "--help"])
    assert said.exit_code == 0, said.output
    assert unit["KillMode"] == "mixed"
    limits = Settings.model_fields["drain_notice_s"].default + Settings.model_fields["drain_timeout_s"].default
    assert int(unit["TimeoutStopSec"]) > limits + 10
    assert unit["User"] == "sentinel"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_unit_is_confined(path: Path) -> None:
    """By one file for all whose name begins like its folder's."""
    confined = service(ROOT / "systemd/sentinel-.service.d/confined.conf")
    assert path.name.startswith("sentinel-")
    assert confined.keys().isdisjoint(service(path))
    assert (confined["ProtectSystem"], confined["CapabilityBoundingSet"], confined["NoNewPrivileges"]) == (
        "strict", "", "yes",
    )  # fmt: skip


def test_what_the_readme_enables_is_what_nginx_asks() -> None:
    """The ports of the gateways, the admin API and the console, and the console's place."""
    asked = re.findall(r"server 127\.0\.0\.1:(\d+)", re.sub("#.*", "", GATEWAYS_CONF))
    for line in re.findall(r"^systemctl (?:enable --now|start) (.*)$", README, re.MULTILINE):
        gateways = re.findall(r"sentinel-gateway@(\d+)", line)
        assert gateways == asked[:2]
        assert {name.partition("@")[0] for name in line.split()} == {path.stem.rstrip("@") for path in UNITS}
    admin, console = (variables(service(ROOT / f"systemd/sentinel-{name}.service")) for name in ("admin", "console"))
    assert admin["SENTINEL_PORT"] == asked[2]
    assert console["SENTINEL_ADMIN_API_URL"] == f"http://127.0.0.1:{asked[2]}"
    assert asked[3] == "7080"
    sites = (ROOT / "nginx/sentinel/http.conf").read_text(encoding="utf-8")
    assert f"location {console['SENTINEL_CONSOLE_PATH']}/ {{" in sites


def test_the_readmes_commands_can_be_read_by_a_shell_and_name_what_is_there() -> None:
    """And the settings that they write are settings."""
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for path in re.findall(r"/opt/sentinel/((?:nginx|systemd)[\w./-]*)", production()):
        assert (ROOT / path).exists(), path
    written = re.search(r"<<END\n(.*?)\nEND\n", production(), re.DOTALL)
    assert written is not None
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in re.findall(r"^(\w+)=", written[1], re.MULTILINE):
        assert re.search(rf"^#?{name}=", example, re.MULTILINE), name
