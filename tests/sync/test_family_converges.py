"""Whatever is edited, deleted and cut off: after a quiet sync the lake holds what the app has."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from membrane_sync.errors import AppUnavailable
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from tests.sync.families import FamilyApp, declared, family_sync
from tests.sync.parts import parties

NAMES = st.sampled_from("abc")


class Families(RuleBasedStateMachine):
    """Accounts, projects and tasks, written to at random between syncs that may be cut off."""

    @initialize(changed_only=st.booleans(), page_size=st.integers(1, 3))
    def begin(self, changed_only: bool, page_size: int) -> None:
        drill: dict[str, Any] = {"changed_parents_only": changed_only, "unique_ids": False}
        self.sync = family_sync(
            declared("accounts"),
            declared("projects", parent=drill),
            declared("tasks", parent=drill),
        )
        self.app = FamilyApp(page_size=page_size, touches=True)
        self.lake = MemoryLake()
        self.quiet = False

    @rule(account=NAMES)
    def put_account(self, account: str) -> None:
        self._write("put", "/accounts", account)

    @rule(account=NAMES, project=NAMES)
    def put_project(self, account: str, project: str) -> None:
        self._write("put", f"/accounts/{account}/projects", project)

    @rule(account=NAMES, project=NAMES, task=NAMES)
    def put_task(self, account: str, project: str, task: str) -> None:
        self._write("put", f"/accounts/{account}/projects/{project}/tasks", task)

    @rule(account=NAMES)
    def delete_account(self, account: str) -> None:
        self._write("delete", "/accounts", account)

    @rule(account=NAMES, project=NAMES)
    def delete_project(self, account: str, project: str) -> None:
        self._write("delete", f"/accounts/{account}/projects", project)

    @rule(account=NAMES, project=NAMES, task=NAMES)
    def delete_task(self, account: str, project: str, task: str) -> None:
        self._write("delete", f"/accounts/{account}/projects/{project}/tasks", task)

    @rule(fail_at=st.integers(1, 12), mode=st.sampled_from(["incremental", "full"]))
    def sync_that_is_cut_off(self, fail_at: int, mode: Any) -> None:
        api = FakeApi(self.app.respond, fail_at=fail_at)
        try:
            self._pull(api, mode)
        except AppUnavailable:
            self.quiet = False

    @rule(mode=st.sampled_from(["incremental", "full"]))
    def sync_twice(self, mode: Any) -> None:
        """Once what was cut off is read to its end, once more for what has changed since."""
        self._pull(FakeApi(self.app.respond), mode)
        self._pull(FakeApi(self.app.respond), "incremental")
        self.quiet = True

    @invariant()
    def the_lake_holds_the_truth(self) -> None:
        if getattr(self, "quiet", False):
            for level, stream in enumerate(("accounts", "projects", "tasks")):
                assert set(self.lake.records(stream)) == set(
                    self.app.below(level, composite=level > 0)
                )

    def _write(self, verb: str, path: str, external_id: str) -> None:
        self.quiet = False
        above = path.strip("/").split("/")
        for i in range(1, len(above) - 1, 2):
            record = self.app.lists.get("/" + "/".join(above[:i]), {}).get(above[i])
            if record is None or record.get("deleted"):
                return
        if verb == "put" or external_id in self.app.lists.get(path, {}):
            getattr(self.app, verb)(path, external_id)

    def _pull(self, api: FakeApi, mode: Any) -> None:
        all_ = parties(api, self.lake, MemoryDestination())
        pull_and_store(self.sync, all_, new_report(self.sync, all_), mode=mode)


def test_a_quiet_sync_brings_the_truth_of_all_levels() -> None:
    run_state_machine_as_test(
        Families, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )
