"""Each app starts, does what the tests need of it, keeps tenants apart, and really ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import httpx
import pytest
import sqlalchemy
from playwright.sync_api import Browser

from membrane_sync.apps.kinto import Account, Kinto, records_path, start_kinto
from membrane_sync.apps.pocketbase import PocketBase, record_id, start_pocketbase
from membrane_sync.apps.pocketbase import records_path as pocketbase_path
from membrane_sync.apps.process import AppError, AppProcess, answers, free_port, stop_leftover
from membrane_sync.machine import is_dead, machine
from tests.apps.debian import find_or_install
from tests.apps.postgresql import postgresql_server
from tests.fixtures import clear_crashed

SERVE = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def http_server(directory: Path) -> AppProcess:
    port = free_port()
    return AppProcess(
        "files", [*SERVE, str(port)], directory, answers(f"http://127.0.0.1:{port}/"), patience=20
    )


def alive(pid: int) -> bool:
    return not is_dead(pid, machine())


class TestProcess:
    def test_starts_and_really_ends(self, tmp_path: Path) -> None:
        with http_server(tmp_path) as process:
            pid = process.pid
            assert pid and alive(pid)
            assert (tmp_path / "server.pid").exists()
        assert not alive(pid)
        assert process.pid is None
        assert not (tmp_path / "server.pid").exists()

    def test_a_process_that_ignores_the_signal_is_killed(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        code = (
            "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
        )
        command = [sys.executable, "-c", code]
        process = AppProcess("deaf", command, tmp_path, ready.exists, grace=0.5).start()
        pid = process.pid
        assert pid
        process.stop()
        assert not alive(pid)

    def test_failing_to_start_shows_the_end_of_the_log(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", "raise SystemExit('no such colour')"]
        with pytest.raises(AppError, match=r"paint stopped before(.|\n)*no such colour"):
            AppProcess("paint", command, tmp_path, lambda: False).start()

    def test_never_ready_is_an_error_and_leaves_nothing(self, tmp_path: Path) -> None:
        process = AppProcess("slow", SLEEP, tmp_path, lambda: False, patience=0.3)
        with pytest.raises(AppError, match=r"not ready within 0\.3 s"):
            process.start()
        assert process.pid is None

    def test_a_leftover_is_stopped_by_the_next_start(self, tmp_path: Path) -> None:
        crashed = http_server(tmp_path).start()
        left = crashed.pid
        assert left
        with http_server(tmp_path) as again:
            assert again.pid != left
            assert crashed.pid is None

    def test_a_pid_that_now_runs_something_else_is_left_alone(self, tmp_path: Path) -> None:
        other = subprocess.Popen(SLEEP)
        try:
            (tmp_path / "server.pid").write_text(f"{other.pid}\n/opt/app/serve --port 1")
            assert not stop_leftover(tmp_path)
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    def test_runs_of_dead_test_processes_are_cleared(self, tmp_path: Path) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        mine, theirs = tmp_path / str(os.getpid()), tmp_path / str(gone.pid)
        mine.mkdir()
        crashed = http_server(theirs / "files").start()
        clear_crashed(tmp_path)
        assert crashed.pid is None
        assert mine.exists() and not theirs.exists()


Place = tuple[Account, str, str]


@pytest.fixture
def place(kinto: Kinto) -> Place:
    """A new tenant with a bucket of its own and an empty collection in it."""
    return new_place(kinto)


def new_place(kinto: Kinto) -> Place:
    name = f"t{token_hex(4)}"
    account = kinto.create_account(name, f"{name}-secret")
    kinto.create_bucket(account, name)
    kinto.create_collection(account, name, "contacts")
    return account, name, "contacts"


class TestKinto:
    def test_write_update_delete_list(self, kinto: Kinto, place: Place) -> None:
        records = [{"id": f"c{n:03}", "name": f"Name {n}", "n": n} for n in range(60)]
        assert kinto.write(*place, records) == 60
        assert kinto.update(*place, [{"id": "c001", "name": "Ada"}]) == 1
        assert kinto.delete(*place, ["c000", "c059"]) == 2
        found = kinto.list(*place)
        assert [record["id"] for record in found] == [f"c{n:03}" for n in range(1, 59)]
        assert (found[0]["name"], found[0]["n"]) == ("Ada", 1)

    def test_writing_again_replaces(self, kinto: Kinto, place: Place) -> None:
        for name in ("first", "second"):
            kinto.write(*place, [{"id": "one", "name": name}])
        assert [record["name"] for record in kinto.list(*place)] == ["second"]

    def test_changes_come_in_the_order_written_with_tombstones(
        self, kinto: Kinto, place: Place
    ) -> None:
        kinto.write(*place, [{"id": f"c{n:03}"} for n in range(30)])
        kinto.delete(*place, ["c004"])
        account, bucket, collection = place
        url = f"{kinto.url}{records_path(bucket, collection)}?_since=0&_sort=last_modified"
        feed = httpx.get(url, auth=account.auth, trust_env=False).json()["data"]
        assert [record["id"] for record in feed[:5]] == ["c000", "c001", "c002", "c003", "c005"]
        assert feed[-1]["id"] == "c004" and feed[-1]["deleted"]

    def test_a_refused_record_is_named(self, kinto: Kinto, place: Place) -> None:
        with pytest.raises(AppError, match=r"Kinto refused .*/records/missing"):
            kinto.update(*place, [{"id": "missing", "name": "x"}])

    def test_a_tenant_cannot_reach_the_bucket_of_another(self, kinto: Kinto, place: Place) -> None:
        kinto.write(*place, [{"id": "secret"}])
        theirs = new_place(kinto)
        assert kinto.list(*theirs) == []
        other, bucket = theirs[0], place[1]
        for attempt in (
            lambda: kinto.list(other, bucket, "contacts"),
            lambda: kinto.write(other, bucket, "contacts", [{"id": "mine"}]),
            lambda: kinto.create_bucket(other, bucket),
        ):
            with pytest.raises(AppError, match="403|refused"):
                attempt()
        assert [record["id"] for record in kinto.list(*place)] == ["secret"]

    def test_an_account_is_made_once(self, kinto: Kinto, place: Place) -> None:
        account = place[0]
        assert kinto.create_account(account.user, account.password) == account
        with pytest.raises(AppError, match="answered 40"):
            kinto.create_account(account.user, "another-secret")

    def test_counts_the_requests_of_others(self, kinto: Kinto, place: Place) -> None:
        account, bucket, collection = place
        path = records_path(bucket, collection)
        before = kinto.requests()
        kinto.list(*place)
        for query in ("", "?_since=0"):
            httpx.get(f"{kinto.url}{path}{query}", auth=account.auth, trust_env=False)
        httpx.get(f"{kinto.url}/", trust_env=False)
        assert kinto.requests(path) == 2
        assert kinto.requests(path, "POST") == 0
        assert kinto.requests() - before == 3
        assert kinto.calls()[-2].query == "_since=0"

    def test_gives_pages_of_the_size_it_was_started_with_and_forgets_when_told(
        self, kinto: Kinto, apps_dir: Path, tmp_path: Path
    ) -> None:
        with start_kinto(apps_dir / "kinto", data=tmp_path, page_size=10) as small:
            place = new_place(small)
            assert small.requests() == 0
            small.write(*place, [{"id": f"d{n}"} for n in range(25)])
            assert len(small.list(*place)) == 25
            assert len([call for call in small.calls() if call.path.endswith("/records")]) == 3
            small.flush()
            with pytest.raises(AppError, match="401"):
                small.list(*place)
            pid = small.process.pid
        assert pid and not alive(pid)


@pytest.fixture
def contacts(pocketbase: PocketBase) -> str:
    name = f"contacts_{token_hex(4)}"
    pocketbase.create_contacts_collection(name)
    return name


def contact(number: int) -> dict[str, str]:
    return {"id": record_id(number), "email": f"c{number}@example.org", "name": f"Name {number}"}


class TestPocketBase:
    def test_write_update_delete_list(self, pocketbase: PocketBase, contacts: str) -> None:
        assert pocketbase.write(contacts, (contact(n) for n in range(1_200))) == 1_200
        assert pocketbase.update(contacts, [{"id": record_id(1), "name": "Ada"}]) == 1
        assert pocketbase.delete(contacts, [record_id(0), record_id(1_199)]) == 2
        found = pocketbase.list(contacts)
        assert [record["id"] for record in found] == [record_id(n) for n in range(1, 1_199)]
        assert (found[0]["name"], found[0]["email"]) == ("Ada", "c1@example.org")

    def test_writing_again_replaces(self, pocketbase: PocketBase, contacts: str) -> None:
        for name in ("first", "second"):
            pocketbase.write(contacts, [{**contact(1), "name": name}])
        pocketbase.create_contacts_collection(contacts)
        assert [record["name"] for record in pocketbase.list(contacts)] == ["second"]

    def test_a_refused_record_is_named(self, pocketbase: PocketBase, contacts: str) -> None:
        taken = {**contact(2), "email": contact(1)["email"]}
        with pytest.raises(AppError, match="validation_not_unique"):
            pocketbase.write(contacts, [contact(1), taken])
        assert pocketbase.list(contacts) == []

    @pytest.mark.parametrize("scheme", ["", "Bearer "])
    def test_counts_the_requests_of_others(
        self, pocketbase: PocketBase, contacts: str, scheme: str
    ) -> None:
        path = pocketbase_path(contacts)
        before = pocketbase.requests(path)
        pocketbase.list(contacts)
        answer = httpx.get(
            f"{pocketbase.url}{path}?perPage=5",
            headers={"Authorization": scheme + pocketbase.login()},
            trust_env=False,
        )
        assert answer.json()["perPage"] == 5
        assert pocketbase.requests(path) - before == 1
        assert pocketbase.requests(path, "POST") == 0
        assert pocketbase.calls()[-1].query == "perPage=5"

    def test_only_the_superuser_reads(self, pocketbase: PocketBase, contacts: str) -> None:
        url = pocketbase.url + pocketbase_path(contacts)
        for headers in ({}, {"Authorization": "wrong"}):
            assert httpx.get(url, headers=headers, trust_env=False).status_code == 403

    def test_two_servers_share_nothing_and_data_survive_a_restart(
        self, pocketbase: PocketBase, apps_dir: Path, tmp_path: Path
    ) -> None:
        with start_pocketbase(apps_dir / "pocketbase", data=tmp_path) as other:
            other.create_contacts_collection("only_there")
            other.write("only_there", [contact(1)])
            pid = other.process.pid
        assert pid and not alive(pid)
        with start_pocketbase(apps_dir / "pocketbase", data=tmp_path) as again:
            assert [record["name"] for record in again.list("only_there")] == ["Name 1"]
        with pytest.raises(AppError, match="404"):
            pocketbase.list("only_there")

    def test_ids_are_made_of_keys(self) -> None:
        assert record_id("C42") == "000000000000c42"
        with pytest.raises(AppError, match="at most 15"):
            record_id("ann@example.org")


class TestPostgreSQL:
    def test_answers(self, postgresql_url: str) -> None:
        engine = sqlalchemy.create_engine(postgresql_url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("create temporary table one as select 41 as n"))
            assert connection.execute(sqlalchemy.text("select n + 1 from one")).scalar() == 42
        engine.dispose()

    def test_really_ends_with_a_client_still_there(
        self, postgresql_url: str, tmp_path: Path
    ) -> None:
        with postgresql_server(tmp_path) as url:
            engine = sqlalchemy.create_engine(url)
            client = engine.connect()
            pid = int((tmp_path / "server.pid").read_text().split()[0])
            began = time.monotonic()
        assert not alive(pid)
        assert time.monotonic() - began < 9
        client.invalidate()
        engine.dispose()


class TestDebian:
    def test_what_cannot_be_installed_skips_and_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(pytest.skip.Exception, match="apt-get install postgresql"):
            find_or_install(lambda: None, "postgresql")

    def test_what_is_there_is_not_installed(self, tmp_path: Path) -> None:
        assert find_or_install(lambda: tmp_path, "no-such-package") == tmp_path


class TestChromium:
    def test_runs_a_page(self, chromium: Browser) -> None:
        page = chromium.new_page()
        page.set_content("<p>old</p><script>document.querySelector('p').innerText='new'</script>")
        assert page.inner_text("p") == "new"
        page.close()
