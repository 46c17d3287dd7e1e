"""A name without a version is the present rules where a person chooses, and version 1 in a record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.rule_sets import present, recorded

SETS = ("strict/12", "published")


@pytest.mark.parametrize(
    ("name", "full_name"),
    [("strict", "strict/12"), ("strict/12", "strict/12"), ("published", "published")],
)
def test_a_person_may_leave_the_version_out(name: str, full_name: str) -> None:
    assert present(name, SETS) == full_name


@pytest.mark.parametrize("name", ["strict/1", "strict/11", "strict/13", "strict/120", "published/2"])
def test_another_version_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(InputError) as told:
        present(name, SETS)
    assert str(told.value) == (
        f"rules {name} are not played by this version of the program; it has strict/12 and published"
    )


@pytest.mark.parametrize(
    "name",
    ["", "/", "/12", "12", "lenient", "lenient/12", "strict/", "strict/012", "strict/x", "strict/1²", "strict/12/1",
     "strict/9999999999", " strict", "strict,", "published/1"],
)  # fmt: skip
def test_what_is_no_name_of_rules_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown rule set .*; valid: strict/12, published"):
        present(name, SETS)


@given(st.text(max_size=40) | st.from_regex(r"(strict|published)/?[0-9]*", fullmatch=True))
def test_every_other_name_is_an_error_of_one_line(name: str) -> None:
    try:
        assert present(name, SETS) in SETS
        assert name in ("strict", *SETS)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("strict", "strict/1"),
        ("strict,catch=2.0,false_flag=0.0", "strict/1,catch=2.0,false_flag=0.0"),
        ("strict/12,multiplier=2.0", "strict/12,multiplier=2.0"),
        ("strict/11", "strict/11"),
        ("published,multiplier=2.0", "published,multiplier=2.0"),
        ("lenient", "lenient"),
    ],
)
def test_a_record_without_a_version_was_made_under_version_one(spelling: str, meant: str) -> None:
    assert recorded(spelling, SETS) == meant
