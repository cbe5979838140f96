"""A small tree of files that is laid out like C-NMC 2019."""

import csv

TRAIN = [
    "fold_0/all/UID_20_1_1_all.bmp",
    "fold_1/all/UID_21_4_2_all.bmp",
    "fold_0/all/UID_51_1_1_all.bmp",
    "fold_2/all/UID_78_1_1_all.bmp",
    "fold_0/hem/UID_H10_1_1_hem.bmp",
    "fold_1/hem/UID_H12_1_1_hem.bmp",
    "fold_2/hem/UID_h3_10_1_hem.bmp",
    "fold_2/hem/UID_H3_2_1_hem.bmp",
]
PRELIMINARY = [f"UID_{57 + i // 4}_{i}_1_all.bmp" for i in range(16)]
PRELIMINARY += [f"UID_H{30 + i // 4}_{i}_1_hem.bmp" for i in range(16)]
LAYOUTS = {
    "mirror": ("training_data", "validation_data/{}", "testing_data/{}"),
    "archive": ("C-NMC_training_data", "{}", "{}"),
}


def write_tree(root, layout="mirror", labels_in="beside"):
    train, preliminary, final = LAYOUTS[layout]
    train = root / train
    preliminary = root / preliminary.format("C-NMC_test_prelim_phase_data")
    final = root / final.format("C-NMC_test_final_phase_data")
    rows = [(name, f"{i}.bmp", int("all" in name)) for i, name in enumerate(PRELIMINARY, 1)]
    files = [train / name for name in TRAIN]
    files += [preliminary / row[1] for row in rows]
    files += [final / f"{i}.bmp" for i in (1, 2, 20, 581, 914)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    table = preliminary.parent if labels_in == "beside" else preliminary
    with (table / "C-NMC_test_prelim_phase_data_labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Patient_ID", "new_names", "labels"), *rows])
    return root
