"""What the head of an execution says of its failure."""

from __future__ import annotations

import pytest

from mini_workflow.core.failure import LONGEST, error_in, failure_of, head_text


def test_a_head_says_class_and_message_and_no_more_than_it_has_room_for() -> None:
    assert error_in(head_text(failure_of(ValueError("row 219: 'é\ud800'")))).startswith(
        "ValueError: row 219: 'é"
    )
    told = error_in(head_text(failure_of(ValueError("x" * 10_000))))
    assert len(told) == LONGEST


@pytest.mark.parametrize(
    "text", ["", '{"kind":"signal","name":"go"}', '{"failed"', '{"failed": 1}', '{"failed":']
)
def test_a_text_that_says_nothing_of_a_failure_is_no_error(text: str) -> None:
    assert error_in(text) == ""
