"""``profile``: one network, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from study.commands.shared import count, number, real, whole, writable

HELP = "Profile one network: what its gradients do, layer by layer."


def _sigma(text: str) -> float | str:
    return text if text == "critical" else number(float, "a number or critical")(text)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network's own words, and what to do with its rows."""
    parser.add_argument("--activation", required=True, metavar="PHI", help="for example relu")
    parser.add_argument("--depth", type=whole, required=True, metavar="N", help="weight matrices")
    parser.add_argument(
        "--width", type=whole, default=256, metavar="N", help="units a layer; default: %(default)s"
    )
    parser.add_argument(
        "--sigma-w", type=_sigma, required=True, metavar="S",
        help="Var W = S^2 / fan_in; critical: where gradients neither vanish nor explode",
    )  # fmt: skip
    parser.add_argument(
        "--sigma-b", type=real, default=0.0, metavar="S", help="Var b = S^2; default: %(default)s"
    )
    parser.add_argument(
        "--weights", default="gaussian", metavar="LAW",
        help="gaussian, uniform or orthogonal; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--dtype",
        default="float64",
        metavar="TYPE",
        help="float32 or float64; default: %(default)s",
    )
    parser.add_argument(
        "--kink", type=real, default=1.0, metavar="K", help="phi' at a kink; default: %(default)s"
    )
    parser.add_argument(
        "--seeds", type=count, default=10, metavar="N", help="networks drawn; default: %(default)s"
    )
    parser.add_argument(
        "--batch", type=count, default=1, metavar="B", help="examples; default: %(default)s"
    )
    parser.add_argument(
        "--engine", default="auto", metavar="NAME",
        help="auto, dense or matrix_free; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write the rows to FILE (.csv), and what they are to the .json beside it",
    )


def run(args: argparse.Namespace) -> int:
    """Profile, and say what comes out."""
    import study
    import study.theory
    from study import records
    from study.summary import in_words

    if args.csv is not None:
        if args.csv.suffix != ".csv":
            raise ValueError(
                f"--csv '{args.csv}' is not allowed; allowed: a name that ends in .csv"
            )
        writable("--csv", args.csv.parent)
    critical = study.theory.critical_sigma_w(args.activation, args.sigma_b)
    sigma_w = critical if args.sigma_w == "critical" else args.sigma_w
    net = study.Network(
        activation=args.activation, depth=args.depth, width=args.width, sigma_w=sigma_w,
        sigma_b=args.sigma_b, weights=args.weights, dtype=args.dtype, kink=args.kink,
    )  # fmt: skip
    frame = study.profile(net, seeds=range(args.seeds), batch=args.batch, engine=args.engine)
    chi = study.theory.mean_field(args.activation, sigma_w, args.sigma_b).chi
    print(in_words(frame))
    print(f"\ntheory, infinite width: chi = {chi:.6g}, the factor of the squared norm per layer;")
    print(f"chi = 1 at sigma_w = {critical:.10g} (here {sigma_w:.10g}).")
    if args.csv is not None:
        configuration = {k: v for k, v in vars(args).items() if k not in ("csv", "command", "run")}
        about = {"configuration": {**configuration, "sigma_w": sigma_w}}
        records.write_table(args.csv, frame, about | {"versions": [records.versions()]})
        print(f"rows      {args.csv}")
    return 0
