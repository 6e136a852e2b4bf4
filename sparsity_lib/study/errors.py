"""Errors of the study: user errors, and a requested stop."""


class StudyError(ValueError):
    """Wrong input or damaged file; the message is one line with the fault and the remedy.

    ```python
    try:
        study.Experiment(dataset="cifar")
    except study.StudyError as error:
        print(error)
    ```
    """

    def __str__(self) -> str:
        """Message in which control characters are escaped, for safe output on a terminal."""
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
    """File that is damaged or not the expected one; callers set it aside and make it again."""


class Unreadable(StudyError):
    """File that cannot be read at present, although its content may be intact; callers do not change it."""


class Stopped(StudyError):
    """Work stopped on request before its end; the same call resumes it."""
