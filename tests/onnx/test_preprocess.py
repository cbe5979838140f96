import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import onnx
from effboost import ImageTransform
from effboost._utils.onnx_session import start_session
from effboost.exceptions import UnsupportedInputError
from effboost.onnx._preprocess import preprocess


@functools.cache
def session_of(crop_size, image_size, foreground=False):
    transform = ImageTransform(crop_size, image_size, foreground=foreground)
    return start_session(preprocess(transform).SerializeToString())


sides = st.integers(8, 160)


@pytest.mark.filterwarnings("ignore:images smaller than crop_size")
@settings(max_examples=200, deadline=None)
@given(
    sides,
    sides,
    st.sampled_from([(None, 24), (None, 61), (36, 24), (37, 37), (61, 24), (24, 61)]),
    st.integers(0, 10),
)
def test_images_of_any_size_are_cropped_and_resized_as_by_pillow_to_the_bit(
    height, width, sizes, seed
):
    transform = ImageTransform(*sizes)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    (got,) = session_of(transform.crop_size, transform.image_size).run(["pixels"], {"image": image})
    np.testing.assert_array_equal(got[0], transform.prepare(Image.fromarray(image)))


@pytest.mark.parametrize("shape", [(450, 450), (450, 300), (300, 450), (700, 90), (90, 700)])
def test_images_of_the_papers_size_are_cropped_and_resized_to_the_bit(shape):
    transform = ImageTransform(None, 224)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (got,) = session_of(transform.crop_size, transform.image_size).run(["pixels"], {"image": image})
    np.testing.assert_array_equal(got[0], transform.prepare(Image.fromarray(image)))


@pytest.mark.filterwarnings("ignore:images smaller than crop_size")
@settings(max_examples=300, deadline=None)
@given(
    sides,
    sides,
    st.sampled_from([(None, 24), (36, 24)]),
    st.lists(st.tuples(sides, sides, st.integers(-8, 160), st.integers(-8, 160)), max_size=3),
    st.sampled_from([0, 8, 9]),
    st.integers(0, 10),
)
def test_images_whose_background_was_cut_out_are_cropped_to_the_bit(
    height, width, sizes, boxes, background, seed
):
    image = np.full((height, width, 3), background, dtype=np.uint8)
    rng = np.random.default_rng(seed)
    for tall, wide, top, left in boxes:
        part = image[max(top, 0) : top + tall // 2, max(left, 0) : left + wide // 2]
        part[:] = rng.integers(0, 256, part.shape)
    transform = ImageTransform(*sizes, foreground="masked")
    (got,) = session_of(*sizes, "masked").run(["pixels"], {"image": image})
    np.testing.assert_array_equal(got[0], transform.prepare(Image.fromarray(image)))


def test_shapes_are_inferred_through_the_preprocessing():
    model = onnx.shape_inference.infer_shapes(
        preprocess(ImageTransform(36, 24)), check_type=True, strict_mode=True, data_prop=True
    )
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 24, 24, 3]


@pytest.mark.parametrize("what", [{"stain": "macenko"}, {"foreground": True}], ids=str)
def test_transforms_without_a_graph_are_refused(what):
    name, value = next(iter(what.items()))
    with pytest.raises(
        UnsupportedInputError, match=f"^{name}={value!r} cannot be exported; export a"
    ):
        preprocess(ImageTransform(None, 24, **what))
