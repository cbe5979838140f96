"""What is fuzzed: reading models, and decoding images."""

import random
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np

import effboost
from effboost import ImageSequence
from effboost.exceptions import EffboostError
from fuzz.mutations import change_model, damage

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "persistence" / "golden"
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)


class Target:
    """Files to begin with, and what is done to one and with it."""

    def __init__(self, seeds, change, use):
        self.seeds = [path.read_bytes() for path in seeds]
        self.suffixes = [path.suffix for path in seeds]
        self._change, self._use = change, use

    def warm_up(self, folder):
        """Use each file as it is, so that no case pays for what is loaded at the first time."""
        for suffix, content in zip(self.suffixes, self.seeds, strict=True):
            path = Path(folder, f"whole{suffix}")
            path.write_bytes(content)
            assert self._use(path) == "accepted"

    def run(self, number, folder):
        """Run one case, always the same for one number, and give what came of it.

        Returns
        -------
        str
            "refused" by an `EffboostError`; "accepted"; "unfit" where a model that was accepted
            fails on images with an exception; "memory"; or else a traceback.
        """
        rng = random.Random(number)
        which = rng.randrange(len(self.seeds))
        content = self._change(self.seeds[which], rng, self.seeds)
        path = Path(folder, f"case{self.suffixes[which]}")
        path.write_bytes(content)
        try:
            return self._use(path)
        except EffboostError as error:
            return "memory" if _ran_out_of_memory(error) else "refused"
        except MemoryError:
            return "memory"
        except Exception:
            return traceback.format_exc()
        finally:
            path.unlink()


def _ran_out_of_memory(error):
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _use_model(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = effboost.load(path)
        try:
            model.predict_proba(PICTURES)
        except Exception:
            return "unfit"
    return "accepted"


def _use_image(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ImageSequence([path]).decode(0)
    return "accepted"


TARGETS = {
    "load": lambda: Target(sorted(GOLDEN.glob("*.effboost")), change_model, _use_model),
    "images": lambda: Target(
        sorted((HERE / "seeds").iterdir()), lambda *args: damage(*args) or b"x", _use_image
    ),
}


def run_cases(name, numbers):
    """Run cases in this process, and give what came of each."""
    target = TARGETS[name]()
    with tempfile.TemporaryDirectory() as folder:
        return {number: target.run(number, folder) for number in numbers}
