"""Is fine-tuning better than frozen features, and are boosted trees better than the softmax?"""

import time

from _common import (
    add_data_options,
    add_training_options,
    load_data,
    make_parser,
    network_settings,
    report,
    training_settings,
)

from effboost import evaluate, presets


def main():
    parser = make_parser(__doc__)
    add_data_options(parser)
    add_training_options(parser)
    options = parser.parse_args()
    if options.small:
        options.epochs, options.image_size, options.folds = 1, 32, 2
    X, y, groups = load_data(options, 16 if options.small else 24, 10, options.image_size)
    common, training = network_settings(options), training_settings(options)
    large = common if options.small else common | {"image_size": 224}
    contenders = {
        f"frozen at {large['image_size']}": presets.frozen(**large),
        f"frozen at {options.image_size}": presets.frozen(**common),
        "fine-tuned, head in-sample": presets.paper(**common, **training),
        "fine-tuned, head on held-out subjects": presets.paper(**common, **training).set_params(
            head_protocol="holdout"
        ),
    }
    rows = []
    for name, clf in contenders.items():
        start = time.perf_counter()
        found = evaluate(clf, X, y, groups=groups, cv=options.folds)
        rows.append(
            {
                "contender": name,
                "hybrid accuracy": str(found.metrics["accuracy"]),
                "CNN alone": "" if found.cnn is None else str(found.cnn.metrics["accuracy"]),
                "hybrid minus CNN": "" if found.gain is None else str(found.gain),
                "s": time.perf_counter() - start,
            }
        )
    report("fine_tuning", __doc__, rows)


if __name__ == "__main__":
    main()
