import pytest

from common.networks import tiny_featurizer
from effboost.dask import DaskImageFeaturizer
from effboost.exceptions import UnsupportedInputError


def test_without_a_client_the_error_says_how_to_get_one():
    with pytest.raises(UnsupportedInputError, match="create one first"):
        DaskImageFeaturizer.from_local(tiny_featurizer()).fit(["a.png"])
