"""Check the docstrings of all public names with numpydoc: part of `make lint`.

Public are the classes and functions in the `__all__` of a public module, and the methods and
properties without a leading underscore that these classes have from effboost. The checks are those
of `[tool.numpydoc_validation]` in pyproject.toml. In addition, no example may be skipped (EX), and
the errors that a function raises itself are named (RS).

`python docs/validate_docstrings.py metrics` checks the names that contain "metrics".
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import textwrap
import tomllib
from pathlib import Path

from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, get_validation_checks, validate

import effboost


class PublicName(Validator):
    """What numpydoc checks, where attributes may document what a constructor takes.

    Users read the fields of results and errors, and rarely construct them.
    """

    def __init__(self, obj_name):
        super().__init__(get_doc_object(obj_name, config={"show_class_members": False}))

    @property
    def signature_parameters(self):
        # A protocol is never constructed.
        return () if getattr(self.obj, "_is_protocol", False) else super().signature_parameters

    @property
    def doc_all_parameters(self):
        documented = super().doc_all_parameters
        is_read = dataclasses.is_dataclass(self.obj) or is_subclass(self.obj, Exception, tuple)
        if is_read and not documented:
            fields = set(self.signature_parameters)
            attributes = self._doc_parameters(["Attributes"])
            return {name: text for name, text in attributes.items() if name in fields}
        return documented


def is_subclass(thing, *classes):
    return inspect.isclass(thing) and issubclass(thing, classes)


def needs_example(thing):
    """Return whether a docstring needs an example.

    That of a class shows its methods. That of the module effboost.exceptions shows what to do with
    warnings.
    """
    if inspect.isclass(thing):
        return not issubclass(thing, Warning)
    return inspect.isfunction(thing) and "." not in thing.__qualname__


def list_raised(thing):
    """List the errors that a function raises itself."""
    if not inspect.isfunction(thing):
        return []
    body = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing))))
    raised = (node.exc for node in ast.walk(body) if isinstance(node, ast.Raise))
    return {error.func.id for error in raised if isinstance(getattr(error, "func", None), ast.Name)}


def list_faults(thing, checks):
    """Yield line, check and message of each fault."""
    result = validate(thing, validator_cls=PublicName)
    for code, message in result["errors"]:
        if code in checks and (code != "EX01" or needs_example(thing)):
            yield result, code, message
    for name in list_raised(thing):
        if name not in result["docstring"]:
            yield result, "RS", f"{name} is raised, but not named"
    if "doctest: +SKIP" in result["docstring"]:
        yield result, "EX", "An example is skipped; make one that runs"


def public_modules():
    yield effboost
    for found in pkgutil.walk_packages(effboost.__path__, "effboost."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public_members(cls):
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if name.startswith("_") or owner is None or not owner.__module__.startswith("effboost."):
            continue
        member = vars(owner)[name]
        member = getattr(member, "__func__", member)  # of a class method
        if not isinstance(member, property | functools.cached_property):
            member = member if inspect.isfunction(member) else getattr(cls, name)
            # scikit-learn writes methods such as set_fit_request, and their docstrings, itself.
            if not callable(member) or not str(member.__module__).startswith("effboost."):
                continue
        yield f"{owner.__name__}.{name}", member


def public_names():
    """Yield each public class, function and method once, with its name."""
    seen = {}  # keeps them alive, so that no two have the same id
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            members = public_members(value) if inspect.isclass(value) else ()
            for label, thing in ((name, value), *members):
                if id(thing) not in seen:
                    seen[id(thing)] = thing
                    yield f"{module.__name__}.{label}", thing


def main(wanted=""):
    root = Path(__file__).parents[1]
    config = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    checks = get_validation_checks(set(config["tool"]["numpydoc_validation"]["checks"]))
    faults = 0
    for name, thing in public_names():
        if wanted not in name:
            continue
        for result, code, message in list_faults(thing, checks):
            faults += 1
            path = Path(result["file"]).relative_to(root)
            print(f"{path}:{result['file_line']}: {code} {name}: {message}")
    print(f"{faults} faults in docstrings" if faults else "All docstrings are sound.")
    return faults > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
