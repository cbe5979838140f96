"""
A Dask cluster
==============

Predict a folder of images on the workers of a cluster, with damaged files in it.
"""

# %%
# Two workers in this process; in a hospital, ``Client`` takes the address of a scheduler.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from distributed import Client
from PIL import Image

from effboost import presets
from effboost.dask import DaskHybridClassifier
from effboost.datasets import make_blood_cells

client = Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None)

# %%
# 120 images in a folder, three of them cut off in the middle of the file.
folder = tempfile.TemporaryDirectory()
cells = make_blood_cells(12, 10, image_size=96, random_state=0)
paths = [str(Path(folder.name, f"{i:03}.png")) for i in range(len(cells.images))]
for path, picture in zip(paths, cells.images, strict=True):
    Image.fromarray(picture).save(path)
for damaged in (7, 40, 99):
    Path(paths[damaged]).write_bytes(Path(paths[damaged]).read_bytes()[:2000])
table = Path(folder.name, "cells.parquet")
pd.DataFrame({"path": paths}).to_parquet(table)

# %%
# A classifier that was fitted on one machine predicts on all of them. Images that cannot be read do
# not stop the run: they are listed, with the reason.
local = presets.frozen("efficientnet_lite0", image_size=96, random_state=0)
local.fit(cells.images, cells.target, groups=cells.groups)
clf = DaskHybridClassifier.from_local(local)
rejects = clf.predict_to_parquet(str(table), f"{folder.name}/predictions", on_error="skip")
for reject in rejects:
    print(Path(reject.path).name, reject.reason, sep=": ")

# %%
found = pd.read_parquet(f"{folder.name}/predictions")
client.close()
folder.cleanup()

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for label, colour in (("ALL", "tab:red"), ("HEM", "tab:blue")):
    of_label = found["p_ALL"][cells.target[found["position"]] == label]
    ax.hist(of_label.dropna(), bins=np.linspace(0, 1, 21), alpha=0.6, color=colour, label=label)
ax.set(xlabel="probability of ALL", ylabel="images", title=f"{len(found)} rows of parquet")
ax.legend()
