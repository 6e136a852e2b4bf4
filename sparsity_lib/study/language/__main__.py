"""python -m sparsity_lib.study.language run | publish | verify: the study's language models, from a shell."""

import argparse
import sys

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.language import grid, publication


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0 done, 1 something is wrong, 2 bad input."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.command(args))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command trains what is missing", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    experiments = grid.select(args.profile, q=args.q, seeds=args.seeds, published=args.published)
    made = grid.run_all(experiments, args.jobs, args.out)
    print(f"{args.profile}: {len(made)} runs of language models")
    return 0


def _publish(args: argparse.Namespace) -> int:
    count = publication.publish(args.profile, args.out, args.replace)
    print(f"{count} runs added to {publication.folder_of()}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    wrong = publication.verify()
    print("\n".join(wrong) if wrong else "language models: every published file is as listed")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sparsity_lib.study.language", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="train what is missing of a profile")
    publish = commands.add_parser("publish", help="put finished runs into results/language/")
    for sub, what in ((run, _run), (publish, _publish)):
        sub.set_defaults(command=what)
        sub.add_argument("profile", nargs="?", default="laptop", help=", ".join(grid.GRIDS))
        sub.add_argument("--out", metavar="FOLDER", help="the folder of runs (default: runs/language/)")
    run.add_argument("--jobs", type=int, metavar="K", help="runs side by side (default: one a core)")
    run.add_argument("--q", metavar="none,1,2", default="", help="instead of the profile's own")
    run.add_argument("--seeds", metavar="0-2,5", default="", help="instead of the profile's own")
    run.add_argument("--published", action="store_true", help="the values of q and seeds that are published")
    publish.add_argument(
        "--replace", action="store_true", help="also runs made anew, for published ones of other code"
    )
    commands.add_parser("verify", help="check the published file against its digest").set_defaults(
        command=_verify
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
