from psn_lightning.errors import SettingError


def test_the_latest_message_is_remembered():
    SettingError("first")
    assert str(SettingError("second")) == "second" == SettingError.latest
