"""Size, exposure and sharpness in the graph equal those in Python."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import onnx
from common.exported import cells, edited, tiny_file, tiny_hybrid
from effboost import OnnxClassifier
from effboost._familiarity import REASONS
from effboost._images.measures import measure
from effboost._utils.onnx_session import start_session
from effboost.datasets import make_blood_cells
from effboost.exceptions import ModelFileError
from effboost.onnx._measures import build_measures
from onnx import TensorProto, helper


@pytest.fixture(scope="module")
def run():
    """Return a function that measures an image by the graph."""
    onnx.checker.check_model(build_measures(), full_check=True)
    session = start_session(build_measures().SerializeToString())
    return lambda image: session.run(["measures"], {"image": np.asarray(image)})[0]


def change(image):
    """Return an image, and the same one blurred, dark, bright, tiny and large."""
    return {
        "as it is": image,
        "blurred": image.filter(ImageFilter.GaussianBlur(3)),
        "dark": ImageEnhance.Brightness(image).enhance(0.2),
        "bright": ImageEnhance.Brightness(image).enhance(3),
        "tiny": image.resize((9, 8)),
        "large": image.resize((1100, 1300), Image.Resampling.BICUBIC),
    }


@pytest.mark.parametrize("kind", ["as it is", "blurred", "dark", "bright", "tiny", "large"])
def test_the_measures_of_cells_equal_those_in_python(run, kind):
    made = make_blood_cells(n_subjects=3, images_per_subject=2, image_size=97, random_state=0)
    for pixels in made.images:
        image = change(Image.fromarray(pixels))[kind]
        np.testing.assert_allclose(run(image), measure(image), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 700), (4, 4), (512, 513), (1025, 6), (7, 1025), (1536, 90), (9, 2600)]
)
@pytest.mark.parametrize("levels", [(0, 1), (255, 256), (0, 256)], ids=["black", "white", "noise"])
def test_images_of_any_size(run, shape, levels):
    # Blocks at the margins have fewer pixels, and Pillow rounds their means in its own way.
    pixels = np.random.default_rng(0).integers(*levels, (*shape, 3)).astype(np.uint8)
    expected = measure(Image.fromarray(pixels))
    np.testing.assert_allclose(run(pixels), expected, rtol=1e-12, atol=1e-12)


def make_odd():
    """Return images, each with a reason of its own to flag it."""
    image = Image.fromarray(cells()[0][0])
    return {
        "size": np.asarray(image.resize((90, 90), Image.Resampling.NEAREST)),
        "exposure": np.asarray(ImageEnhance.Brightness(image).enhance(3)),
        "blur": np.asarray(image.filter(ImageFilter.GaussianBlur(4))),
    }


def test_the_reasons_of_the_graph_are_those_of_the_model(tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(tiny_file())
    odd = make_odd()
    images = [*cells()[0][:4], *odd.values()]
    expected = tiny_hybrid().check_familiarity(images)
    session = start_session(tiny_file())
    for image, reasons in zip(images, expected.reasons, strict=True):
        (found,) = session.run(["reasons"], {"image": image})
        assert tuple(np.array(REASONS)[found[0]]) == reasons
    for name, reasons in zip(odd, expected.reasons[4:], strict=True):
        assert name in reasons
    table = OnnxClassifier(tmp_path / "tiny.onnx").check_familiarity(images)
    np.testing.assert_array_equal(table.reasons, expected.reasons)
    assert expected.familiar[:4].all()


def test_files_of_older_versions_are_measured_in_python(tmp_path):
    def drop(model):
        kept = [output for output in model.graph.output if output.name != "reasons"]
        del model.graph.output[:]
        model.graph.output.extend(kept)

    (tmp_path / "old.onnx").write_bytes(edited(drop))
    images = [*cells()[0][:4], *make_odd().values()]
    found = OnnxClassifier(tmp_path / "old.onnx").check_familiarity(images)
    np.testing.assert_array_equal(found.reasons, tiny_hybrid().check_familiarity(images).reasons)


def test_reasons_of_another_type_are_refused(tmp_path):
    def replace(model):
        for output in model.graph.output:
            if output.name == "reasons":
                model.graph.output.remove(output)
        for node in model.graph.node:
            node.output[:] = ["no_reasons" if n == "reasons" else n for n in node.output]
        model.graph.node.append(helper.make_node("Identity", ["familiarity"], ["reasons"]))
        model.graph.output.append(helper.make_tensor_value_info("reasons", TensorProto.FLOAT, [1]))

    (tmp_path / "odd.onnx").write_bytes(edited(replace))
    with pytest.raises(ModelFileError, match="reasons to flag images that are not those"):
        OnnxClassifier(tmp_path / "odd.onnx").predict(cells()[0][:1])
