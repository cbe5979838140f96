"""A report on a model for pathologists and statisticians: one HTML file, and a model card."""

from __future__ import annotations

import dataclasses
import datetime
import os
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from effboost._images import ImageSequence, as_images
from effboost._utils.atomic_write import check_target, write_atomic
from effboost._utils.columns import check_groups
from effboost._utils.compat import check_report_packages
from effboost._validation import check_labels
from effboost.evaluation import EvaluationReport, LearningCurve, evaluate
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._report_content import describe
from effboost.inspection._report_decisions import TrainingData
from effboost.inspection._report_leakage import compare_with_training, find_leakage
from effboost.inspection._templates import render_card, render_page

__all__ = ["HTMLReport", "report"]


@dataclasses.dataclass(frozen=True)
class HTMLReport:
    """A report on an evaluation.

    Create it with `from_estimator`, `from_evaluation` or `report`.

    Attributes
    ----------
    evaluation : EvaluationReport
        The numbers.
    html : str
        The page. It loads no other files, runs no scripts, and can be printed.
    model_card : str
        A summary, as Markdown.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from effboost import evaluate
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import HTMLReport
    >>> cells = make_blood_cells(n_subjects=6, images_per_subject=4, image_size=64, random_state=0)
    >>> found = evaluate(DummyClassifier(), cells.images, cells.target, groups=cells.groups, cv=2)
    >>> page = HTMLReport.from_evaluation(found, cells.images)
    >>> "</html>" in page.html, page.model_card[:12]
    (True, '# Model card')
    """

    evaluation: EvaluationReport
    html: str
    model_card: str

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        X: Any,
        y: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        cv: Any = "prefit",
        X_train: Any = None,
        y_train: npt.ArrayLike | None = None,
        groups_train: npt.ArrayLike | None = None,
        pos_label: Any = None,
        title: str | None = None,
        n_mistakes: int = 8,
        labels: bool = False,
        curve: LearningCurve | None = None,
        random_state: int = 0,
        verbose: int = 0,
    ) -> Self:
        """Evaluate a classifier, and report on it.

        Parameters
        ----------
        clf : classifier
            Fitted; or not, with another `cv` than "prefit".
        X : images, n_samples of them
            Images that the classifier has not seen.
        y : array-like of shape (n_samples,)
            Their labels.
        groups : array-like of shape (n_samples,), default=None
            Their subjects; see `evaluate`.
        cv : "prefit", int, splitter or iterable of (train, test), default="prefit"
            "prefit" tests the fitted `clf`; anything else cross-validates it, see `evaluate`.
        X_train, y_train, groups_train : images, labels and subjects, default=None
            What `clf` was fitted on, with cv="prefit". The report then says whether a subject or an
            image is in both the training and the test data, and heat maps use training images as
            `background` of `hybrid_attribution`. With `y_train`, errors are shown beside their
            `neighbours` of other subjects.
        pos_label : label, default=None
            The positive class; if given, the report includes the two operating points.
        title : str, default=None
            Heading of the report.
        n_mistakes : int, default=8
            Number of errors to show with heat maps.
        labels : bool, default=False
            Add a section on labels that are probably wrong, by `label_issues` (extra ``labels``).
        curve : LearningCurve, default=None
            Result of `effboost.evaluation.learning_curve`: adds a section on how many subjects are
            needed.
        random_state : int, default=0
            Seed of folds and bootstrap samples.
        verbose : int, default=0
            1 shows a progress bar over the folds on stderr.

        Returns
        -------
        HTMLReport
            The report.

        Raises
        ------
        UnsupportedInputError
            If training data do not go with `cv`, or `y_train` is given without `X_train`.
        LeakageError
            If a cross-validation has a subject or an image in both training and test data.
        MissingDependencyError
            If matplotlib or Jinja2 is not installed.
        """
        check_report_packages()
        prefit = isinstance(cv, str) and cv == "prefit"
        if X_train is not None and not prefit:
            raise UnsupportedInputError(
                f'X_train requires cv="prefit"; cv={cv!r} splits training images off itself'
            )
        if X_train is None and y_train is not None:
            raise UnsupportedInputError("y_train are the labels of X_train: give X_train, too")
        shape = clf.get_params().get("featurizer__image_shape")
        images = as_images(X, image_shape=shape)
        evaluation = evaluate(
            clf,
            images,
            y,
            groups=groups,
            cv=cv,
            pos_label=pos_label,
            return_estimator=True,
            random_state=random_state,
            verbose=verbose,
        )
        training = findings = None
        if X_train is not None:
            known = as_images(X_train, image_shape=shape)
            findings = compare_with_training(known, images, groups_train, evaluation)
            if groups_train is None:
                groups_train = known.groups
            training = TrainingData(
                known,
                None if y_train is None else check_labels(y_train),
                None if groups_train is None else check_groups(groups_train, len(known)),
            )
        return cls._make(evaluation, images, training, findings, title, n_mistakes, labels, curve)

    @classmethod
    def from_evaluation(
        cls,
        evaluation: EvaluationReport,
        X: Any,
        *,
        title: str | None = None,
        n_mistakes: int = 8,
        labels: bool = False,
        curve: LearningCurve | None = None,
    ) -> Self:
        """Report on an evaluation that was made before.

        Parameters
        ----------
        evaluation : EvaluationReport
            Made with ``return_estimator=True``, which heat maps and settings require.
        X : images, n_samples of them
            The evaluated images, in the same order.
        title : str, default=None
            Heading of the report.
        n_mistakes : int, default=8
            Number of errors to show with heat maps.
        labels : bool, default=False
            Add a section on labels that are probably wrong, by `label_issues` (extra ``labels``).
        curve : LearningCurve, default=None
            Result of `effboost.evaluation.learning_curve`: adds a section on how many subjects are
            needed.

        Returns
        -------
        HTMLReport
            The report.

        Raises
        ------
        UnsupportedInputError
            If `X` has another number of images than were evaluated.
        MissingDependencyError
            If matplotlib or Jinja2 is not installed.
        """
        check_report_packages()
        shape = None
        if evaluation.estimators:
            shape = evaluation.estimators[0].get_params().get("featurizer__image_shape")
        images = as_images(X, image_shape=shape)
        if len(images) != len(evaluation.y_true):
            raise UnsupportedInputError(
                f"X has {len(images)} images, but {len(evaluation.y_true)} were evaluated"
            )
        return cls._make(evaluation, images, None, None, title, n_mistakes, labels, curve)

    @classmethod
    def _make(
        cls,
        evaluation: EvaluationReport,
        images: ImageSequence,
        training: TrainingData | None,
        findings: list[dict[str, Any]] | None,
        title: str | None,
        n_mistakes: int,
        labels: bool,
        curve: LearningCurve | None,
    ) -> Self:
        content = describe(evaluation, images, training, n_mistakes, labels=labels, curve=curve)
        content |= {
            "title": title or f"Report on {content['model']}",
            "date": datetime.date.today().isoformat(),
            "leakage": find_leakage(evaluation, images, findings),
        }
        return cls(evaluation, render_page(content), render_card(content))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, replaced in one step if it exists.

        Parameters
        ----------
        path : path
            The file, such as "report.html".

        Returns
        -------
        Path
            The file.
        """
        return write_atomic(path, self.html)

    def save_model_card(self, path: str | os.PathLike[str]) -> Path:
        """Write the model card to a file, replaced in one step if it exists.

        Parameters
        ----------
        path : path
            The file, such as "MODEL_CARD.md".

        Returns
        -------
        Path
            The file.
        """
        return write_atomic(path, self.model_card)


def report(
    clf: Any, X: Any, y: npt.ArrayLike, *, path: str | os.PathLike[str], **options: Any
) -> HTMLReport:
    """Evaluate a classifier and write one HTML file about it.

    The file contains its images and styles, and no scripts. Its sections are the tested images and
    subjects, results with intervals, the confusion matrix, results by subject, the most confident
    errors with heat maps and the most similar training images, what decides, calibration, leakage,
    settings and versions, and limits.

    Parameters
    ----------
    clf : classifier
        Fitted; or not, with another `cv` than "prefit".
    X, y : images and labels
        Images that the classifier has not seen, and their labels.
    path : path
        The file to write, such as "report.html".
    **options
        Further options of `HTMLReport.from_estimator`: `groups`, `cv`, `X_train`,
        `y_train`, `groups_train`, `pos_label`, `title`, ...

    Returns
    -------
    HTMLReport
        The report; `save_model_card` writes its summary.

    Raises
    ------
    LeakageError
        If a cross-validation has a subject or an image in both training and test data.
    MissingDependencyError
        If matplotlib or Jinja2 is not installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost import inspection, presets
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=8, images_per_subject=4, image_size=64, random_state=0)
    >>> X, y, groups = cells.images, cells.target, cells.groups
    >>> clf = presets.frozen("resnet18", weights=None, image_size=64, random_state=0)
    >>> clf = clf.fit(X[:16], y[:16], groups=groups[:16])
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "report.html")
    ...     written = inspection.report(
    ...         clf, X[16:], y[16:], groups=groups[16:], X_train=X[:16], groups_train=groups[:16],
    ...         path=file,
    ...     )
    ...     file.read_text(encoding="utf-8").count("<section")
    10
    """
    check_target(path)
    made = HTMLReport.from_estimator(clf, X, y, **options)
    made.save(path)
    return made
