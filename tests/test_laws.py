"""The table of laws: every law agrees, every wrong number is flagged, false alarms are rare."""

import numpy as np
import pytest

from study.laws import LAWS, table
from study.laws.law import every, mean_of, median_of, share_of, variance_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name.replace(" ", "_"))
def test_law_agrees_and_its_control_is_flagged(law):
    found = law.measure(1)
    assert found.agrees(found.expected)
    assert not found.agrees(found.wrong)


def test_family_of_laws_rarely_raises_a_false_alarm():
    assert len(LAWS) * 1e-5 < 1e-3


def test_judges_tell_right_from_wrong():
    x = np.random.default_rng(0).normal(2.0, 3.0, 4000)
    for found in (
        mean_of(x, 2.0, 3.0),
        median_of(x, 2.0, 3.0),
        variance_of(x, 9.0, 12.0),
        share_of(int((x > 2).sum()), x.size, 0.5, 0.6),
        every(np.array([0.9, 1.1]), 1.0, 1.2, tolerance=0.11),
    ):
        assert found.agrees(found.expected)
        assert not found.agrees(found.wrong)


def test_every_network_must_be_within_the_tolerance():
    assert not every(np.array([0.0, 5.0]), 0.0, 1.0, tolerance=1.0).agrees(0.0)


def test_table_and_page(tmp_path):
    frame = table.measure(1, [law for law in LAWS if law.name == "zero branches"])
    path = table.write(frame, tmp_path, "quick")
    assert path.exists()
    assert "zero branches" in path.read_text()
    assert "1 of 1 laws agree" in table.markdown(frame)
