"""`{published-explorer}`, of published runs of one setting, a network each; and `{rescale-control}`."""

from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sparsity_lib.study import Run, StudyError, explore, load, rescale_control
from sparsity_lib.study.runs import results

NETWORKS = ("vanillaNet", "sr2Net", "dropNet", "varNet")  # the first two are shown first
SETTING = {"dataset": "cifar100", "size": "s", "epochs": 100, "optimizer": "sgd"}  # the paper's


def chosen() -> list[Run]:
    """The published run of each of NETWORKS; `StudyError` if one is not there."""
    runs = map(load, results.published_runs("registered"))
    found = {run.experiment.network: run for run in runs if SETTING.items() <= dict(run.experiment).items()}
    if absent := [network for network in NETWORKS if network not in found]:
        raise StudyError(f"{absent[0]} has no published run file at the paper's settings")
    return [found[network] for network in NETWORKS]


def explorer() -> str:
    """The explorer of these runs, as HTML."""
    shown = explore(chosen(), compare=1, layer="conv3")
    html = shown.as_html()
    shown.close()
    return html


def _directive(make: Callable[[], str]) -> type[SphinxDirective]:
    class Generated(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            self.env.note_reread()  # files come and go between builds
            try:
                return [nodes.raw("", make(), format="html")]
            except StudyError as error:  # a damaged file
                raise self.error(str(error)) from None

    return Generated


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("published-explorer", _directive(explorer))
    app.add_directive("rescale-control", _directive(lambda: rescale_control().data))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
