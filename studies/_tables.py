"""Tables of a study's page, from rows of values by column."""

from collections.abc import Mapping

from markupsafe import Markup

from workbench.reporting import html_table


def table(
    rows: Mapping[str, Mapping[str, object]], decimals: Mapping[str, int] | int = 2, caption: str = "", index: str = ""
) -> Markup:
    """Rows by name, values of each by column: estimates, numbers or text. `decimals`: for all columns, or by column."""
    import pandas as pd

    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    frame = pd.DataFrame([[row.get(column, "") for column in columns] for row in rows.values()], list(rows), columns)
    return html_table(frame.rename_axis(index), decimals, caption)
