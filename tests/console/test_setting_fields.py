"""What may be typed into a setting's field is what the admin API takes, and no more."""

import msgspec
import pytest

from admin_api.schemas.settings import SettingChanges
from console.i18n import Texts
from console.setting_fields import BOUNDS, SETTINGS

T = Texts("en")


@pytest.mark.parametrize("name", [each.name for each in SETTINGS.values() if not (each.options or each.url)])
def test_a_number_is_good_within_the_bounds_of_the_wire_and_bad_just_outside(name):
    low, high = BOUNDS[name]
    for number in (low - 1, low, high, high + 1):
        good = SETTINGS[name].fault(T, str(number)) is None
        try:
            msgspec.convert({name: number}, SettingChanges)
        except msgspec.ValidationError:
            assert not good
        else:
            assert good


@pytest.mark.parametrize("text", ["", "1.5", "1e3", "\N{ARABIC-INDIC DIGIT THREE}", "0x10", "1" * 4000])
def test_what_is_no_whole_number_is_refused_and_breaks_nothing(text):
    assert SETTINGS["networks_per_key"].fault(T, text) == "a whole number from 1 to 64"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", True),
        ("https://hooks.example.com/x?token=1", True),
        ("HTTP://192.0.2.1:8080", True),
        ("http://[2001:db8::1]/", True),
        ("hooks.example.com/x", False),
        ("ftp://hooks.example.com/x", False),
        ("https:///x", False),
        ("https://hooks.example.com:0/", False),
        ("https://hooks.example.com:99999/", False),
        ("https://[2001:db8::1", False),
        ("https://hooks.example.com/a b", False),
        ("https://钩子.example/", False),
        (f"https://hooks.example.com/{'x' * 2048}", False),
    ],
)
def test_a_webhook_is_an_http_url_with_a_host_or_nothing(text, good):
    assert (SETTINGS["alert_webhook_url"].fault(T, text) is None) is good
