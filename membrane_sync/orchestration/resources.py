"""What assets and sensors need at run time; opened when first used, so that loading stays cheap."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from membrane_sync.orchestration import run_process
from membrane_sync.project.project import Project

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime


_projects: dict[str, Project] = {}


def remember(project: Project) -> None:
    """Use the project as this process has loaded and checked it, at each tick and in its run."""
    _projects[str(project.root)] = project


class MembraneResource(dg.ConfigurableResource[None]):
    """The project at `root`, with its lake, ledger and connections."""

    root: str
    _runtime: Any = PrivateAttr(default=None)

    def runtime(self) -> "Runtime":
        """The project, opened once a run; DuckDB, httpx and SQLAlchemy are only imported now."""
        from membrane_sync.bootstrap import Runtime, open_runtime

        if self._runtime is None:
            project = _projects.get(self.root)
            self._runtime = Runtime(project) if project else open_runtime(Path(self.root))
        assert isinstance(self._runtime, Runtime)
        return self._runtime

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Have the run say which process it goes on in, so that it's noticed when that is gone."""
        if context.run is not None and context.instance is not None:
            run_id = context.run.run_id
            context.instance.add_run_tags(run_id, {run_process.TAG: run_process.here(run_id)})

    def teardown_after_execution(self, _: dg.InitResourceContext) -> None:
        """Give back the database connections."""
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None
