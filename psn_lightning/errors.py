"""The one error that users are meant to see."""


class SettingError(ValueError):
    """A setting that cannot work.

    The message names the setting, its value and what to do instead; the command line prints it
    without a traceback and exits with code 2.
    """
