"""Errors: user errors, and a requested stop."""


class StudyError(ValueError):
    """A wrong input or a damaged file, in one line that names the fault and the remedy.

    ```python
    try:
        study.Experiment(dataset="cifar")
    except study.StudyError as error:
        print(error)
    ```
    """

    def __str__(self) -> str:
        """The line; control characters in it are written out, so that it cannot steer a terminal."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())


class NonFiniteLoss(StudyError):
    """Training diverged: the loss became infinite or NaN.

    ```python
    try:
        run = study.train(experiment)
    except study.NonFiniteLoss:
        run = None
    ```
    """


class Unusable(StudyError):
    """A file that is damaged or not the one that was expected: it is set aside and made again."""


class Unreadable(StudyError):
    """A file that cannot be read at present, though its content may be sound: it is left as it is."""


class Stopped(StudyError):
    """The work was stopped before its end, on request; the same call resumes."""
