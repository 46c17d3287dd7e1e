"""uv is told what pip is configured with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts import pip_settings
from scripts.pip_settings import environment, read, translated

LISTED = r"""
global.cert='/certs/all.pem'
global.extra-index-url='https://one.example/simple\nhttps://two.example/simple'
global.find-links='/wheels'
global.index-url='https://index.example/simple'
install.find-links='/wheels /more wheels'
download.find-links='/elsewhere'
:env:.cert='/certs/own.pem'
:env:.trusted-host=''
"""


def told(lines: str) -> dict[str, str]:
    return translated(read(lines.splitlines()))


def test_every_setting_has_its_variable() -> None:
    assert told(LISTED) == {
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more,wheels",
        "SSL_CERT_FILE": "/certs/own.pem",
    }


def test_one_index_needs_no_strategy() -> None:
    assert "UV_INDEX_STRATEGY" not in told("global.index-url='https://index.example/simple'")


def test_variables_override_the_command_s_section_and_that_the_global_one() -> None:
    lines = [":env:.find-links='/env'", "install.find-links='/install'", "global.find-links='/global'"]
    assert [told("\n".join(lines[i:]))["UV_FIND_LINKS"] for i in range(3)] == ["/env", "/install", "/global"]


def test_settings_come_from_pip_s_variables_and_its_file(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nextra-index-url = https://extra.example/simple\n")
    found = environment({"PIP_CONFIG_FILE": str(file), "PIP_FIND_LINKS": "/wheels", "PATH": ""})
    assert found["UV_INDEX"] == "https://extra.example/simple"
    assert found["UV_FIND_LINKS"] == "/wheels"
    assert found["PIP_FIND_LINKS"] == "/wheels"


def test_what_the_user_told_uv_stays(tmp_path: Path) -> None:
    own = {"PIP_CONFIG_FILE": str(tmp_path / "none"), "PIP_FIND_LINKS": "/wheels", "UV_FIND_LINKS": "/own"}
    assert environment(own)["UV_FIND_LINKS"] == "/own"


def test_the_command_line_runs_the_command_with_them(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, pip_settings.__file__, sys.executable, "-c", "import os; print(os.environ['UV_FIND_LINKS'])"],
        env={**{k: v for k, v in os.environ.items() if k != "UV_FIND_LINKS"}, "PIP_FIND_LINKS": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [str(tmp_path)]
