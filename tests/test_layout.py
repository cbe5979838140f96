"""The shape of the package: small modules and functions, and one internal protocol."""

import ast
import re
from pathlib import Path

import pytest

import effboost

ROOT = Path(effboost.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
# What other modules may use of the estimators, beside their public interface. See
# `BaseImageFeaturizer` for what each of them does.
PROTOCOL = {
    "_child",
    "_check_backbone",
    "_check_images",
    "_check_params",
    "_compute_features",
    "_extractor",
    "_feature_cache",
    "_fit",
    "_fit_labelled",
    "_load_network",
    "_n_epochs",
    "_n_features_out",
    "_prepare_images",
    "_resolve_transform",
    "_set_fitted_state",
}
ESTIMATORS = ("featurizer", "featurizer_", "clf", "cnn", "cnn_", "model", "twin", "classifier")


def length_without_docstring(function):
    length = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(getattr(first, "value", None), ast.Constant):
        length -= first.end_lineno - first.lineno + 1
    return length


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 450
    assert not re.search(r'"{3}Give\b', text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert length_without_docstring(node) <= 60, node.name
            if node.name == "__init__":
                parameters = [*node.args.args, *node.args.kwonlyargs][1:]
                assert len(parameters) <= 16, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_use_only_the_internal_protocol_of_the_estimators(path):
    """An attribute with an underscore, of what is called as an estimator usually is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        owner = node.value
        name = getattr(owner, "attr", getattr(owner, "id", ""))
        if name in ESTIMATORS and not node.attr.startswith("__"):
            assert node.attr in PROTOCOL | {"_validate_params"}, (name, node.attr, node.lineno)
