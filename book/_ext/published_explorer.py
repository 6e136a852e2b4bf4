"""`{published-explorer}`, of published runs of one setting, a network each; and `{rescale-control}`."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sparsity_lib.study import Run, StudyError, explore, load, rescale_control
from sparsity_lib.study.runs import results

NETWORKS = ("vanillaNet", "sr2Net", "dropNet", "varNet")  # the first two are shown first, and must be there
# The first of these that has published files of both: natural images before digits.
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("registered", {"dataset": "cifar100", "size": "s", "epochs": 100, "optimizer": "sgd"}),
    ("desktop", {"dataset": "cifar10-jpeg", "size": "s"}),
    ("laptop", {"dataset": "digits", "label_noise": 0.3, "epochs": 100, "optimizer": "sgd"}),
)


def chosen() -> list[Run]:
    """A published run of each of NETWORKS that has one, of one setting and seed; none without both first."""
    for profile, setting in SETTINGS:
        runs = [load(path) for path in results.published_runs(profile)]
        found = {run.experiment: run for run in runs if setting.items() <= dict(run.experiment).items()}
        for plain in (experiment for experiment in found if experiment.network == NETWORKS[0]):
            same = [plain.model_copy(update={"network": network}) for network in NETWORKS]
            if same[1] in found:
                return [found[experiment] for experiment in same if experiment in found]
    return []


class PublishedExplorer(SphinxDirective):
    """Puts the explorer in its place."""

    def run(self) -> list[nodes.Node]:
        try:
            runs = chosen()
        except StudyError as error:  # a damaged file
            raise self.error(str(error)) from None
        for run in runs:
            self.env.note_dependency(str(Path(run.path).resolve()))
        if not runs:
            return [nodes.paragraph("", "There are no published runs to explore.")]
        explorer = explore(runs, compare=1, layer="conv3")
        html = explorer.as_html()
        explorer.close()
        return [nodes.raw("", html, format="html")]


class RescaleControl(SphinxDirective):
    """Puts the rescale control of the published plain network in its place."""

    def run(self) -> list[nodes.Node]:
        try:
            html = rescale_control().data
        except StudyError as error:  # no such run, or a damaged file
            raise self.error(str(error)) from None
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directives known."""
    app.add_directive("published-explorer", PublishedExplorer)
    app.add_directive("rescale-control", RescaleControl)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
