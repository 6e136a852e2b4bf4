"""`{published-explorer}`: an explorer of two published runs, the plain network and one with SparsityReg."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sparsity_lib.study import Run, StudyError, explore, load
from sparsity_lib.study.runs import results

NETWORKS = ("vanillaNet", "sr2Net")
# The first of these that has published files of both networks: natural images before digits.
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("registered", {"dataset": "cifar100", "size": "s", "epochs": 100, "optimizer": "sgd"}),
    ("desktop", {"dataset": "cifar10-jpeg", "size": "s"}),
    ("laptop", {"dataset": "digits", "label_noise": 0.3, "epochs": 100, "optimizer": "sgd"}),
)


def chosen() -> list[Run]:
    """One published run of each network, of one setting and seed; none where there are none."""
    for profile, setting in SETTINGS:
        runs = [load(path) for path in results.published_runs(profile)]
        alike = [run for run in runs if setting.items() <= dict(run.experiment).items()]
        for plain in (run for run in alike if run.experiment.network == NETWORKS[0]):
            same = {"network": NETWORKS[1]}
            for run in alike:
                if run.experiment == plain.experiment.model_copy(update=same):
                    return [plain, run]
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
        explorer = explore(runs, beside=1, layer="conv3")
        html = explorer.as_html()
        explorer.close()
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("published-explorer", PublishedExplorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
