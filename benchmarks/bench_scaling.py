"""How do time and memory grow with ten times as many files?"""

import shutil
import tempfile

from _common import make_parser, measured, report, write_cells

_SCRIPT = """
import glob
from effboost import presets
folder, side, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
paths = sorted(glob.glob(folder + "/*.bmp"))[:n]
featurizer = presets.frozen("efficientnet_b0", weights=None, image_size=side).featurizer
featurizer.fit(paths).transform(paths[:8])
before = peak_mb()
start = time.perf_counter()
features = featurizer.transform(paths)
seconds = time.perf_counter() - start
result = {
    "images": len(paths),
    "ms an image": 1000 * seconds / len(paths),
    "features MB": features.nbytes / 2**20,
    "peak before MB": before,
}
"""


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    side, original = 224, 450
    if options.small:
        options.images, side, original = 100, 64, 96
    with tempfile.TemporaryDirectory() as folder:
        paths, _, _ = write_cells(folder, options.images // 10, original)
        for path in paths:  # copies of the same cells, since generating them takes minutes
            for number in range(1, 10):
                shutil.copy(path, path.replace(".bmp", f"-{number}.bmp"))
        sizes = (options.images // 10, options.images, options.images // 10)
        rows = [measured(_SCRIPT, folder, side, n) for n in sizes]
    report("scaling", __doc__, rows)


if __name__ == "__main__":
    main()
