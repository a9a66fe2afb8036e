from psn_lightning.errors import SettingError, UnreachableError


def test_an_error_is_found_inside_a_report_that_quotes_it():
    SettingError("first")
    error = UnreachableError("second")
    assert SettingError.inside(error) is error
    assert SettingError.inside(ValueError("parser: second, unfortunately")) is error
    assert SettingError.inside(ValueError("first")) is None
