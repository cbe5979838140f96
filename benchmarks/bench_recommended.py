"""How long does fitting the recommended hybrid take, compared with the paper's head?

On a frozen network, without a cache, and with the time for exporting the network. Each head alone
is fitted on the features of its own recipe.
"""

from _common import (
    add_data_options,
    interleaved_seconds,
    load_data,
    make_parser,
    report,
)
from sklearn.preprocessing import LabelEncoder

from effboost import LinearBoostedClassifier, presets
from effboost._heads.booster import paper_booster


def main():
    question = __doc__.partition("\n")[0]
    parser = make_parser(question)
    add_data_options(parser)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default="none", help='"imagenet", "none" or a file')
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.small:
        options.image_size, options.rounds = 32, 1
    X, y, groups = load_data(options, 12 if options.small else 120, 9, options.image_size)
    settings = {
        "backbone": options.backbone,
        "weights": None if options.weights == "none" else options.weights,
        "image_size": options.image_size,
        "random_state": 0,
    }
    recipes = {
        "paper": presets.frozen(**settings),
        "recommended": presets.recommended(**settings),
    }
    # With groups, which the recommended head uses to choose its regularisation.
    fits = {name: lambda clf=clf: clf.fit(X, y, groups=groups) for name, clf in recipes.items()}
    whole = interleaved_seconds(fits, options.rounds)
    codes = LabelEncoder().fit_transform(y)
    features = {name: clf.transform(X) for name, clf in recipes.items()}
    heads = {
        "paper": lambda: paper_booster().fit(features["paper"], codes),
        "recommended": lambda: LinearBoostedClassifier(random_state=0).fit(
            features["recommended"], codes, groups=groups
        ),
    }
    alone = interleaved_seconds(heads, options.rounds)
    rows = [
        {
            "recipe": name,
            "images": len(y),
            "fit, s": whole[name],
            "times paper": whole[name] / whole["paper"],
            "head alone, s": alone[name],
            "head times paper's": alone[name] / alone["paper"],
        }
        for name in recipes
    ]
    report("recommended", question, rows)


if __name__ == "__main__":
    main()
