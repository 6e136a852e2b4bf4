"""python -m sparsity_lib.study train | run | status | tensorboard | publish | verify, from a shell."""

import argparse
import contextlib
import itertools
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sparsity_lib.study.errors import Stopped, StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.profiles import PROFILES, experiments, profile
from sparsity_lib.study.queue import costs
from sparsity_lib.study.recipes import ALL_SIZES
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import results
from sparsity_lib.study.selection import listed, parse_seeds

# Other modules are imported in the commands that need them: torch alone takes two seconds.


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0 done, 1 something is wrong or unfinished, 2 bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(given, argparse.Namespace(given=given))
    try:
        return args.command(args)
    except Stopped as error:
        print(error, file=sys.stderr)
        return 130
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130


def _train(args: argparse.Namespace) -> int:
    from sparsity_lib.study.tensorboard import Board, export, writing
    from sparsity_lib.study.training.loop import train

    fields = [_field(text) for text in args.fields]
    if twice := {name for name, _ in fields if [other for other, _ in fields].count(name) > 1}:
        raise StudyError(f"{', '.join(sorted(twice))}: given more than once")
    experiment = Experiment(**dict(fields))
    board = Board.of_training(experiment, args.tensorboard) if args.tensorboard else None

    def report(record: dict[str, Any]) -> None:
        loss, accuracy = float(record["val_loss"]), float(record["val_accuracy"])
        print(f"epoch {record['epoch']} of {experiment.epochs}: val loss {loss:.4f}, accuracy {accuracy:.4f}")
        if board:
            with writing(board.path):
                board(record)

    with contextlib.closing(board) if board else contextlib.nullcontext(), _stop_requested() as stop:
        run = train(experiment, report, args.out, stop=stop)
    if board and board.writer is None:  # the run was there already
        export(run, args.tensorboard)
    print(run.path)
    return 0


def _tensorboard(args: argparse.Namespace) -> int:
    from sparsity_lib.study.tensorboard import export

    print(export(runs.load(args.run), args.to))
    return 0


def _queue(args: argparse.Namespace, name: str) -> list[Experiment]:
    if unknown := [size for size in args.sizes if size not in ALL_SIZES]:
        raise StudyError(f"unknown size '{unknown[0]}'; known: {', '.join(ALL_SIZES)}")
    queue = experiments(name, parse_seeds(args.seeds), args.grids, args.published)
    if args.only:
        queue = _selected(queue, args.only, name)
    datasets = dict.fromkeys(e.dataset for e in queue)
    if absent := [dataset for dataset in args.datasets if dataset not in datasets]:
        raise StudyError(f"no runs on '{absent[0]}' in {name}; there are runs on {', '.join(datasets)}")
    return [
        e for e in queue if e.size in (args.sizes or [e.size]) and e.dataset in (args.datasets or datasets)
    ]


def _selected(queue: list[Experiment], wanted: list[str], name: str) -> list[Experiment]:
    by_digest = {experiment.digest: experiment for experiment in queue}
    digests = [each.rpartition("-")[2] for each in wanted]
    if absent := [each for each in digests if each not in by_digest]:
        raise StudyError(f"no run '{absent[0]}' among the {len(queue)} of {name}; --published, or --seeds?")
    return [by_digest[each] for each in digests]


def _run(args: argparse.Namespace) -> int:
    from sparsity_lib.study.queue.scheduling import default_jobs, missing, require_positive, run_queue

    require_positive(args.jobs, args.seconds)
    public = results.published_ids(args.profile)
    queue = [e for e in _queue(args, args.profile) if e.id not in public]
    absent = missing(queue, args.out)
    expected = costs.expected(args.profile, absent, costs.measured(args.profile, [], args.out))
    if args.list:
        for experiment in absent:
            cost = expected[experiment.id]
            print(experiment.id, f"{cost:.0f} s" if cost else "cost unknown", sep="\t")
        return 0
    known = [cost for cost in expected.values() if cost]
    to_do = f"{len(absent)} to train, {len(absent) - len(known)} of them of unknown cost"
    if known:  # torch is imported for the default number of jobs
        to_do += f", the others in about {sum(known) / (args.jobs or default_jobs()):.0f} s"
    print(f"{args.profile}: {profile(args.profile).description}; {len(queue)} runs, {to_do}", flush=True)
    with _stop_requested() as stop:
        outcome = run_queue(queue, args.jobs, args.seconds, args.out, stop)
    print(
        f"{args.profile}: {len(outcome.already)} runs were there, {len(outcome.done)} trained, "
        f"{len(outcome.stopped)} to resume, {len(outcome.diverged)} diverged, "
        f"{len(outcome.failed)} failed"
    )
    for reason in outcome.diverged.values():
        print(f"diverged: {reason}")
    for experiment in queue:
        if experiment.id in outcome.failed:
            print(f"failed: {experiment.id}: {outcome.failed[experiment.id]}")
            print(f"  log: {runs.log_of(experiment, args.out)}")
            again = ["python", "-m", "sparsity_lib.study", *args.given, "--only", experiment.digest]
            print(f"  again: {shlex.join(again)}")
    if stop() and outcome.stopped:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    return 1 if outcome.failed or outcome.stopped else 0


@contextlib.contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM was received; a second one goes to Python's own handler."""
    received = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        os.write(2, b"stopping after this epoch (once more: at once)\n")  # print may be at work just now
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(args: argparse.Namespace) -> int:
    having = [name for name in PROFILES if set(args.grids) <= profile(name).grids.keys()]
    if not having and not args.profile:
        raise StudyError(f"no profile has the grids {', '.join(args.grids)}")
    for name in [args.profile] if args.profile else having:
        _print_status(name, _queue(args, name), args.out)
    return 0


def _print_status(name: str, queue: list[Experiment], folder: str | None) -> None:
    """Print the finished, running and missing runs of a queue, cell by cell, and the hours left."""
    times = costs.measured(name, queue, folder)
    started = costs.in_training([e for e in queue if e.id not in times], folder)
    expected = costs.expected(name, queue, times | {run: seconds for run, (_, seconds) in started.items()})
    absent = sum(experiment.id not in times for experiment in queue)
    print(f"{name}: {len(queue)} runs, {absent} missing")
    rest, unknown = 0.0, 0
    for cell, group in itertools.groupby(sorted(queue, key=_cell), key=_cell):
        members = {e.id: e.epochs for e in group}
        left = [run for run in members if run not in times]
        cost = expected[next(iter(members))]
        if cost is None:
            unknown += len(left)
        else:
            rest += cost * sum(1 - started.get(run, (0, 0.0))[0] / members[run] for run in left)
        underway = [f"{started[run][0]} of {members[run]} epochs" for run in left if run in started]
        at = f"{len(underway)} in training ({', '.join(underway)}), " if underway else ""
        done, missing = len(members) - len(left), len(left) - len(underway)
        price = f"about {cost:.0f} s each" if cost else "cost unknown"
        print(f"  {cell}: {done} done, {at}{missing} missing, {price}")
    if absent:
        hours = rest / 3600
        print(f"  left: {hours:.1f} h of one job, {hours / 2:.1f} h of two; {unknown} runs of unknown cost")


def _publish(args: argparse.Namespace) -> int:
    from sparsity_lib.study.runs import publication

    count = publication.publish(args.profile, args.out, args.replace)
    print(f"{count} runs added to {results.folder_of(args.profile)}")
    if args.weights:
        count = publication.publish_networks(args.profile, args.weights, args.out)
        print(f"{count} networks added")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from sparsity_lib.study.runs import publication

    if args.again:
        wrong, sound = _repeat(args), f"{args.again}: its first epochs are the same again"
    else:
        wrong, sound = publication.verify(args.profile), f"{args.profile}: every published file is as listed"
    print("\n".join(wrong) if wrong else sound)
    return 1 if wrong else 0


def _repeat(args: argparse.Namespace) -> list[str]:
    """Train the run, finished or published, again and list the differences."""
    from sparsity_lib.study.repeatability import differences

    (experiment,) = _selected(experiments(args.profile, published=True), [args.again], args.profile)
    if run := runs.find(experiment, args.out, by_any_code=True):
        return differences(experiment, results.curves([run]))
    for part in results.published_parts(args.profile):
        if experiment.id in part["run"]:
            return differences(experiment, part.sel(run=[experiment.id]))
    raise StudyError(f"{experiment.id} is neither finished nor published")


def _cell(experiment: Experiment) -> str:
    if isinstance(experiment, LanguageExperiment):
        return f"{experiment.label} {experiment.setting}"
    parts = [results.label(experiment), experiment.size, experiment.dataset_name]
    parts += [f"noise {experiment.label_noise:g}"] if experiment.label_noise else []
    parts += [experiment.optimizer] if experiment.optimizer != "sgd" else []
    parts += [others] if (others := results.others(experiment)) else []
    return " ".join([*parts, f"{experiment.epochs} epochs"])


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise StudyError(f"'{text}' is not FIELD=VALUE, as in network=sr2Net")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sparsity_lib.study", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: Any, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=what)
        if what is not _tensorboard:
            sub.add_argument(
                "--out", metavar="FOLDER", help="the folder of runs (default: the project's runs/)"
            )
        return sub

    one = command("train", _train, "train one experiment, or resume it")
    one.add_argument(
        "fields", nargs="*", metavar="FIELD=VALUE", help="fields of the experiment: network=sr2Net"
    )
    one.add_argument("--tensorboard", metavar="FOLDER", help="write each epoch there for TensorBoard")

    many = command("run", _run, "train what is missing of a profile")
    many.add_argument("profile", help=", ".join(PROFILES))
    many.add_argument(
        "--jobs", type=int, metavar="K", help="runs side by side (default: one a core; 1 on a GPU)"
    )
    many.add_argument(
        "--list", action="store_true", help="print what is missing and its cost, and train nothing"
    )
    many.add_argument("--seconds", type=float, metavar="N", help="stop, resumable, after this time")

    status = command("status", _status, "what is done, missing, and the cost of the rest")
    status.add_argument("profile", nargs="?", help=", ".join(PROFILES))
    names: dict[str, Any] = {"type": partial(listed, "names", kind=str), "default": []}
    for sub in (many, status):
        sub.add_argument("--sizes", metavar="s,m", **names, help="these alone")
        sub.add_argument("--datasets", metavar="cifar100", **names, help="these alone")
        sub.add_argument("--seeds", metavar="0-2,5", default="", help="instead of the profile's own")
        sub.add_argument("--grids", metavar="adam,readings", **names, help="these alone")
        sub.add_argument("--published", action="store_true", help="the seeds that are published")
        sub.add_argument("--only", metavar="RUN,RUN", **names, help="these runs alone, by id or its end")

    board = command("tensorboard", _tensorboard, "write a finished run for TensorBoard")
    board.add_argument("run", metavar="RUN", help="the run's file")
    board.add_argument("--to", metavar="FOLDER", required=True, help="TensorBoard's --logdir")

    publish = command("publish", _publish, "put finished confirmatory runs into results/")
    publish.add_argument("profile")
    again = "also replace published runs of other code by new ones"
    publish.add_argument("--replace", action="store_true", help=again)
    publish.add_argument("--weights", metavar="sr2Net,varNet", **names, help="also networks of shown runs")
    verify = command("verify", _verify, "check the published runs against their digests")
    verify.add_argument("profile")
    verify.add_argument("--again", metavar="RUN", default="", help="train a run's first epochs again instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
