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
from typing import Any

from sparsity_lib.study.errors import Stopped, StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import PROFILES, experiments, profile
from sparsity_lib.study.queue import costs
from sparsity_lib.study.queue.scheduling import missing, run_queue
from sparsity_lib.study.recipes import ALL_SIZES
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import publication, results
from sparsity_lib.study.selection import parse_seeds
from sparsity_lib.study.tensorboard import Board, export
from sparsity_lib.study.training.loop import NonFiniteLoss, train


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0 done, 1 something is wrong or unfinished, 2 bad input."""
    args = _parser().parse_args(arguments)
    try:
        return args.command(args)
    except Stopped as error:
        print(error, file=sys.stderr)
        return 130
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _train(args: argparse.Namespace) -> int:
    fields = [_field(text) for text in args.fields]
    if twice := {name for name, _ in fields if [other for other, _ in fields].count(name) > 1}:
        raise StudyError(f"{', '.join(sorted(twice))}: given more than once")
    experiment = Experiment(**dict(fields))
    board = Board.of_training(experiment, args.tensorboard) if args.tensorboard else None

    def report(record: dict[str, Any]) -> None:
        loss, accuracy = float(record["val_loss"]), float(record["val_accuracy"])
        print(f"epoch {record['epoch']} of {experiment.epochs}: val loss {loss:.4f}, accuracy {accuracy:.4f}")
        if board:
            board(record)

    with contextlib.closing(board) if board else contextlib.nullcontext(), _asked_to_stop() as stop:
        try:
            run = train(experiment, report, args.out, stop=stop)
        except NonFiniteLoss as error:
            runs.note_divergence(experiment, args.out, str(error))
            raise
    if board and board.writer is None:  # the run was there already
        export(run, args.tensorboard)
    print(run.path)
    return 0


def _tensorboard(args: argparse.Namespace) -> int:
    print(export(runs.load(args.run), args.to))
    return 0


def _queue(args: argparse.Namespace, name: str) -> list[Experiment]:
    sizes = args.sizes.split(",") if args.sizes else list(ALL_SIZES)
    if unknown := [size for size in sizes if size not in ALL_SIZES]:
        raise StudyError(f"unknown size '{unknown[0]}'; known: {', '.join(ALL_SIZES)}")
    grids = args.grids.split(",") if args.grids else []
    queue = experiments(name, parse_seeds(args.seeds), grids, args.published)
    if args.only:
        queue = _alone(queue, args.only.split(","), name)
    datasets = args.datasets.split(",") if args.datasets else {e.dataset for e in queue}
    if absent := [dataset for dataset in datasets if dataset not in {e.dataset for e in queue}]:
        there = ", ".join(dict.fromkeys(e.dataset for e in queue))
        raise StudyError(f"no runs on '{absent[0]}' in {name}; there are runs on {there}")
    return [e for e in queue if e.size in sizes and e.dataset in datasets]


def _alone(queue: list[Experiment], wanted: list[str], name: str) -> list[Experiment]:
    by_digest = {experiment.digest: experiment for experiment in queue}
    digests = [each.rpartition("-")[2] for each in wanted]
    if absent := [each for each in digests if each not in by_digest]:
        raise StudyError(f"no run '{absent[0]}' among the {len(queue)} of {name}; --published, or --seeds?")
    return [by_digest[each] for each in digests]


def _run(args: argparse.Namespace) -> int:
    public = results.published_ids(args.profile)
    queue = [e for e in _queue(args, args.profile) if e.id not in public]
    if args.list:
        absent = missing(queue, args.out)
        expected = costs.expected(args.profile, absent, costs.measured(args.profile, [], args.out))
        for experiment in absent:
            cost = expected[experiment.id]
            print(experiment.id, f"{cost.seconds:.0f} s" if cost else "cost unknown", sep="\t")
        return 0
    print(f"{args.profile}: {profile(args.profile).what}; {len(queue)} runs", flush=True)
    with _asked_to_stop() as stop:
        outcome = run_queue(queue, args.jobs, args.seconds, args.out, stop)
    print(
        f"{args.profile}: {len(outcome.already)} runs were there, {len(outcome.done)} trained, "
        f"{len(outcome.stopped)} to go on with, {len(outcome.diverged)} diverged, "
        f"{len(outcome.failed)} failed"
    )
    for told in outcome.diverged.values():
        print(f"diverged: {told}")
    for experiment in queue:
        if experiment.id in outcome.failed:
            print(f"failed: {experiment.id}: {outcome.failed[experiment.id]}")
            print(f"  log: {runs.log_of(experiment, args.out)}")
            print(f"  again: {_again(args, experiment)}")
    if stop() and outcome.stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if outcome.failed or outcome.stopped else 0


def _again(args: argparse.Namespace, experiment: Experiment) -> str:
    """The command that trains this one of the queue."""
    told = ["python", "-m", "sparsity_lib.study", "run", args.profile, "--only", experiment.digest]
    told += ["--seeds", args.seeds] if args.seeds else []
    told += ["--published"] if args.published else []
    told += ["--out", args.out] if args.out else []
    return shlex.join(told)


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM asked to stop after the epoch; asked again, Python's own handler answers."""
    asked = []

    def note(number: int, frame: object) -> None:
        asked.append(number)
        os.write(2, b"stopping after this epoch (once more: at once)\n")  # print may be at work just now
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(args: argparse.Namespace) -> int:
    grids = set(args.grids.split(",")) if args.grids else set()
    for name in [args.profile] if args.profile else PROFILES:
        if not args.profile and not grids <= set(profile(name).grids):
            continue  # asked of all profiles: those that have it
        queue = _queue(args, name)
        took = costs.measured(name, queue, args.out)
        expected = costs.expected(name, queue, took)
        absent = sum(experiment.id not in took for experiment in queue)
        print(f"{name}: {len(queue)} runs, {absent} missing")
        rest, unknown = 0.0, 0
        for cell, group in itertools.groupby(sorted(queue, key=_cell), key=_cell):
            members = list(group)
            left = sum(e.id not in took for e in members)
            cost = expected[members[0].id]
            if cost is None:
                told = "cost unknown"
            elif cost.others:
                told = f"about {cost.seconds:.0f} s each, as others of this size"
            else:
                told = f"{cost.seconds:.0f} s each"
            print(f"  {cell}: {len(members) - left} done, {left} missing, {told}")
            rest, unknown = rest + (left * cost.seconds if cost else 0), unknown + (0 if cost else left)
        if absent:
            print(
                f"  the rest costs about {rest / 60:.0f} min of one job, and {unknown} runs of unknown cost"
            )
    return 0


def _publish(args: argparse.Namespace) -> int:
    count = publication.publish(args.profile, args.out, args.replace)
    print(f"{count} runs added to {results.folder_of(args.profile)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    wrong = publication.verify(args.profile)
    print("\n".join(wrong) if wrong else f"{args.profile}: every published file is as listed")
    return 1 if wrong else 0


def _cell(experiment: Experiment) -> str:
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
        if what not in (_tensorboard, _verify):
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
    for sub in (many, status):
        sub.add_argument("--sizes", metavar="s,m", default="", help="these alone")
        sub.add_argument("--datasets", metavar="cifar100", default="", help="these alone")
        sub.add_argument("--seeds", metavar="0-2,5", default="", help="instead of the profile's own")
        sub.add_argument("--grids", metavar="adam,readings", default="", help="these alone")
        sub.add_argument("--published", action="store_true", help="the seeds that are published")
        sub.add_argument("--only", metavar="RUN,RUN", default="", help="these runs alone, by id or its end")

    board = command("tensorboard", _tensorboard, "write a finished run for TensorBoard")
    board.add_argument("run", metavar="RUN", help="the run's file")
    board.add_argument("--to", metavar="FOLDER", required=True, help="TensorBoard's --logdir")

    publish = command("publish", _publish, "put finished confirmatory runs into results/")
    publish.add_argument("profile")
    again = "also runs made anew, for published ones of other code"
    publish.add_argument("--replace", action="store_true", help=again)
    command("verify", _verify, "check the published runs against their digests").add_argument("profile")
    return parser


if __name__ == "__main__":
    sys.exit(main())
