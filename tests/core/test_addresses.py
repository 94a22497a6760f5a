import pytest

from workbench.core.addresses import shown, without_secrets

SECRET = "hidden"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("runs/optuna.journal", "runs/optuna.journal"),
        ("sqlite:///trials.db", "sqlite:///trials.db"),
        ("grpc://node:13000", "grpc://node:13000"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:hidden@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me:hid%40den@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hid/hidden#hid@hidden@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hid?hidden@host/db", "postgresql://***"),
        ("postgresql://host/db?password=hidden", "postgresql://host/db?***"),
        ("postgresql://host/db?sslmode=require&sslpassword=hidden", "postgresql://host/db?***"),
        ("postgresql://me:hidden@host/db?PASSWORD=hidden", "postgresql://me:***@host/db?***"),
        ("postgresql://host/db?pass%77ord=hidden", "postgresql://host/db?***"),
        ("postgresql://host/db?user=me@x&password=hidden", "postgresql://***"),
        ("mysql+pymysql://host/db#password=hidden", "mysql+pymysql://host/db#***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhidden", "mssql+pyodbc:///?***"),
        ("postgresql:/me:hidden@host/db", "postgresql:/me:***@host/db"),
        ("https://me:hidden@[::1/", "https://me:***@[::1/"),
    ],
)
def test_what_is_shown_holds_no_secret(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert SECRET not in expected


@pytest.mark.parametrize("said", ["cannot parse 'URL'", 'invalid dsn: "password=a b!c"', "got a%20b%21c", "got a+b!c"])
def test_what_others_say_of_it_holds_no_secret(said: str) -> None:
    address = "postgresql://me:q@host/db?password=a%20b%21c&sslpassword=a+b!c"
    found = without_secrets(said.replace("URL", address), address)
    assert "***" in found
    assert not any(form in found for form in ("a b!c", "a%20b%21c", "a+b!c"))
