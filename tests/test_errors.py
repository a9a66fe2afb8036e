from psn_lightning.errors import SettingError, UnreachableError, compact


def test_a_setting_error_is_found_among_causes():
    error = UnreachableError("the reason")
    report = ValueError("a library's report")
    report.__cause__ = error
    assert SettingError.inside(report) is error
    assert SettingError.inside(error) is error
    assert SettingError.inside(ValueError("the reason")) is None


def test_a_cause_that_is_its_own_context_ends():
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    assert SettingError.inside(error) is None


def test_a_message_is_two_lines_at_most():
    assert compact(ValueError("first\n\n second \n third")) == "first\n  second third"
    assert compact(ValueError()) == ""
