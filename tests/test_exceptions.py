import pickle

import pytest

from effboost import exceptions


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (exceptions.UnsupportedInputError("x"), (ValueError, TypeError)),
        (exceptions.ImageDecodeError(3, "a.png", "is empty"), (ValueError, OSError)),
        (exceptions.ImageNotFoundError(3, "a.png", "is missing"), (FileNotFoundError,)),
        (exceptions.SplitError("x"), (ValueError,)),
        (exceptions.LeakageError("x", ("S1",), (("a", "b"),)), (ValueError,)),
        (exceptions.WeightsNotFoundError("x"), (FileNotFoundError, ValueError)),
        (exceptions.WeightsMismatchError("x", ("a",), ("b",), ("c",)), (ValueError,)),
        (exceptions.MissingDependencyError("x"), (ImportError,)),
        (exceptions.ModelFileError("a.effboost", "is empty"), (ValueError,)),
        (exceptions.RuntimeUnavailableError("x"), (RuntimeError,)),
        (exceptions.DatasetError("x"), (ValueError,)),
        (exceptions.UnknownBackboneError("x"), (ValueError,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_have_builtin_bases_and_can_be_pickled(error, builtin):
    assert isinstance(error, exceptions.EffboostError)
    assert all(isinstance(error, kind) for kind in builtin)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_an_image_error_names_position_path_and_reason():
    error = exceptions.ImageDecodeError(3, "a.png", "is empty", origin=9)
    assert str(error) == "image at position 3 (position 9 before slicing), 'a.png': is empty"
