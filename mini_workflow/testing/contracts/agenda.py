"""Hold every `Agenda` to its contract. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from mini_workflow.testing.contracts.backend import BackendContract, change, create


class AgendaContract(BackendContract):
    """The contract of `Agenda`. Inherit it, and override `open_backend`."""

    def test_what_is_due_earliest_first(self) -> None:
        one = self.owner()
        for wake_at in (500, 100, 300, 200, 400):
            create(one, f"at {wake_at}", wake_at=wake_at)
        create(one, "never")
        assert one.agenda.due(99, 10) == []
        assert one.agenda.due(300, 10) == ["at 100", "at 200", "at 300"]
        assert one.agenda.due(1_000, 2) == ["at 100", "at 200"]
        # Reading does not consume.
        assert one.agenda.due(300, 10) == ["at 100", "at 200", "at 300"]

    def test_what_is_due_follows_the_head(self) -> None:
        one = self.owner()
        create(one, "a", "b", wake_at=100)
        change(one, "a", wake_at=900)
        change(one, "b")
        assert one.agenda.due(100, 10) == []
        assert one.agenda.next_wake() == 900
        assert one.agenda.due(900, 10) == ["a"]

    def test_the_status_does_not_matter_to_what_is_due(self) -> None:
        one = self.owner()
        create(one, "a", wake_at=1, status="completed", closed_at=5)
        create(one, "b", wake_at=2, status="blocked", blocked_kind="code")
        assert one.agenda.due(100, 10) == ["a", "b"]
        assert one.agenda.next_wake() == 1

    def test_the_next_wake_is_the_earliest(self) -> None:
        one = self.owner()
        assert one.agenda.next_wake() is None
        create(one, "never")
        assert one.agenda.next_wake() is None
        create(one, "a", wake_at=300)
        create(one, "b", wake_at=200)
        assert one.agenda.next_wake() == 200

    def test_the_time_may_be_zero_or_far_away(self) -> None:
        one = self.owner()
        create(one, "first", wake_at=0)
        create(one, "last", wake_at=2**53)
        assert one.agenda.next_wake() == 0
        assert one.agenda.due(2**53, 10) == ["first", "last"]

    def test_busy_ones_in_order_of_id(self) -> None:
        one = self.owner()
        create(one, "d", "b", "e", "a", "c", busy=True)
        create(one, "bb")
        change(one, "e")
        assert one.agenda.busy("", 10) == ["a", "b", "c", "d"]
        assert one.agenda.busy("", 2) == ["a", "b"]
        assert one.agenda.busy("b", 10) == ["c", "d"]
        assert one.agenda.busy("d", 10) == []

    def test_blocked_ones_by_their_kind_in_order_of_id(self) -> None:
        one = self.owner()
        create(one, "d", "b", "a", "c", status="blocked", blocked_kind="code")
        create(one, "x", status="blocked", blocked_kind="limit")
        create(one, "y")
        change(one, "d", status="running")
        assert one.agenda.blocked("code", "", 10) == ["a", "b", "c"]
        assert one.agenda.blocked("code", "", 2) == ["a", "b"]
        assert one.agenda.blocked("code", "a", 10) == ["b", "c"]
        assert one.agenda.blocked("limit", "", 10) == ["x"]
        assert one.agenda.blocked("other", "", 10) == []

    def test_only_what_the_owner_holds_counts(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        fields = {"wake_at": 5, "busy": True, "status": "blocked", "blocked_kind": "code"}
        create(one, "a", **fields)
        create(two, "b", **{**fields, "wake_at": 7})
        for backend, name, wake_at in ((one, "a", 5), (two, "b", 7)):
            assert backend.agenda.due(10, 10) == [name]
            assert backend.agenda.next_wake() == wake_at
            assert backend.agenda.busy("", 10) == [name]
            assert backend.agenda.blocked("code", "", 10) == [name]
        onlooker = self.onlooker()
        assert onlooker.agenda.due(10, 10) == []
        assert onlooker.agenda.next_wake() is None
        assert onlooker.agenda.busy("", 10) == []
        assert onlooker.agenda.blocked("code", "", 10) == []

    def test_what_is_taken_over_is_put_in_order_with_the_rest(self) -> None:
        owners = [self.owner(str(number)) for number in range(3)]
        for number in range(12):
            create(
                owners[number % 3], f"e{number:02}", wake_at=100 - number, busy=True,
                status="blocked", blocked_kind="code",
            )  # fmt: skip
        names = [f"e{number:02}" for number in range(12)]
        for owner in owners[1:]:
            owner.leases.release()
        assert owners[0].leases.acquire(self.clock.now())
        agenda = owners[0].agenda
        assert agenda.due(100, 100) == names[::-1]
        assert agenda.due(100, 5) == names[:-6:-1]
        assert agenda.next_wake() == 89
        assert agenda.busy("", 100) == agenda.blocked("code", "", 100) == names
        assert agenda.busy("e04", 3) == agenda.blocked("code", "e04", 3) == names[5:8]
        assert owners[1].agenda.due(100, 100) == []
