"""How good are the paper's systems on a split like the paper's, and on one by subject?

Not part of `make bench`: on C-NMC 2019 it takes a GPU and hours. It does the same as `effboost
reproduce`, and also writes the rows to results/reproduce_paper.json.
"""

from _common import add_data_options, make_parser, report

from effboost.reproduction import reproduce


def main():
    parser = make_parser(__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--out", default="effboost-reproduction", help="folder for the results")
    parser.add_argument("--systems", help="comma-separated names; default: all")
    parser.add_argument("--backbone")
    parser.add_argument("--weights", default="auto", help='"imagenet", "none" or a file')
    parser.add_argument("--freeze-batch-norm", action="store_true")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--image-size", type=int)
    options = parser.parse_args()
    found = reproduce(
        options.data,
        options.out,
        systems=options.systems and options.systems.split(","),
        quick=options.small,
        target=options.target,
        group=options.group,
        drop_classes=options.drop_class,
        backbone=options.backbone,
        weights=None if options.weights == "none" else options.weights,
        freeze_batch_norm=options.freeze_batch_norm,
        image_size=options.image_size,
        max_epochs=options.epochs,
        verbose=1,
    )
    print("\n".join(found.notes))
    rows = [
        row(name, result) for name, splits in found.results.items() for result in splits.values()
    ]
    report("reproduce_paper", __doc__.splitlines()[0], rows)


def row(name, result):
    metrics = {} if result.report is None else result.report["metrics"]
    scores = {
        f"{metric} {end}": metrics.get(metric, {}).get(end)
        for metric in ("accuracy", "weighted_f1")
        for end in ("value", "low", "high")
    }
    return {
        "system": name,
        "split": result.split,
        "network": result.network,
        "weights": result.weights,
        **scores,
        "parameters": result.parameters,
        "training s": result.train_seconds,
        "one image ms": result.single_ms,
        "per image in a batch ms": result.batch_ms,
        "file bytes": result.size_bytes,
        "error": result.error,
    }


if __name__ == "__main__":
    main()
