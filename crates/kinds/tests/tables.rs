//! The columns of every table, as upstream's server answers them. `Name:s/name` is a string column
//! of format `name`, `*1` one that is shown with `-o wide` only. Kinds without columns of their own
//! get the server's default table.

/// A line for each kind: its columns as `Name:first letter of the type/format*priority`. With
/// `SKIFF_UPDATE=1` set, the test writes it anew.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tables.txt");

#[test]
fn columns_are_upstreams() {
    let kinds = kinds::all();
    let mut lines = Vec::new();
    for kind in &kinds {
        let columns = kind.columns.iter().map(|column| {
            let format = if column.format.is_empty() {
                String::new()
            } else {
                format!("/{}", column.format)
            };
            let wide = if column.priority == 0 {
                String::new()
            } else {
                format!("*{}", column.priority)
            };
            format!("{}:{}{format}{wide}", column.name, &column.r#type[..1])
        });
        let group = if kind.gvk.group.is_empty() {
            String::new()
        } else {
            format!(".{}", kind.gvk.group)
        };
        let columns: Vec<String> = columns.collect();
        let space = if columns.is_empty() { "" } else { " " };
        lines.push(format!("{}{group}:{space}{}", kind.plural, columns.join(", ")));
    }
    let lines = lines.join("\n") + "\n";
    if std::env::var_os("SKIFF_UPDATE").is_some() {
        std::fs::write(FILE, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(FILE).unwrap());
}
