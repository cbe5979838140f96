import numpy as np

from effboost import presets


def test_frozen_takes_whole_images_and_the_networks_own_normalisation():
    params = presets.frozen("mobilenet_v2", weights=None, random_state=3).get_params()
    expected = {
        "featurizer__backbone": "mobilenet_v2",
        "featurizer__weights": None,
        "featurizer__crop_size": None,
        "featurizer__normalize": "backbone",
        "classifier__learning_rate": 0.35,
        "random_state": 3,
    }
    assert {key: params[key] for key in expected} == expected


def test_frozen_classifies_images_of_any_size(pixels, three_classes):
    clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    clf.set_params(classifier__n_estimators=5)
    sizes = [picture[: 20 + i % 3] for i, picture in enumerate(pixels)]
    assert clf.fit(sizes, three_classes).score(sizes, three_classes) > 0.9
    assert clf.predict(sizes).dtype == np.asarray(three_classes).dtype
