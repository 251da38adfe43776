//! Columns of text, as kubectl aligns them: three spaces between, the last one ragged.

use serde_json::Value;

/// Prints rows under headers; a header of `None` has been printed before.
pub(crate) fn print(rows: &[Vec<String>]) {
    print!("{}", render(rows));
}

/// Aligns rows.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[column] + 3 - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// A table cell as text.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_align() {
        let rows = vec![
            vec!["NAME".into(), "AGE".into()],
            vec!["a-long-name".into(), "1s".into()],
        ];
        assert_eq!(super::render(&rows), "NAME          AGE\na-long-name   1s\n");
    }
}
