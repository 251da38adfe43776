//! Doc comments as upstream's OpenAPI generator shows them
//! (kube-openapi `pkg/generators`: `generateDescription`, `enumType.DescriptionLines`).

use super::go::Constant;

/// Lines of a comment group as Go's `ast.CommentGroup.Text` gives them.
pub fn comment_lines(raw: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in raw {
        let text = line.strip_prefix(' ').unwrap_or(line);
        if !line.starts_with(' ') && is_directive(line) {
            continue;
        }
        let text = text.trim_end();
        if text.is_empty() && lines.last().is_none_or(|l: &String| l.is_empty()) {
            continue;
        }
        lines.push(text.to_owned());
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// `//go:build` and the like.
fn is_directive(line: &str) -> bool {
    let lower = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    line.split_once(':').is_some_and(|(tool, rest)| {
        lower(tool)
            && rest
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// The value of `+name=value`, for each line that has it.
pub fn markers<'a>(lines: &'a [String], name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(move |line| {
        let rest = line.trim().strip_prefix('+')?.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.trim()),
            None => rest.is_empty().then_some(""),
        }
    })
}

/// Whether `+name` or `+name=…` is there.
pub fn has_marker(lines: &[String], name: &str) -> bool {
    markers(lines, name).next().is_some()
}

/// The description that OpenAPI shows for a comment.
pub fn description<S: AsRef<str>>(lines: &[S]) -> String {
    let mut out = String::new();
    for line in lines {
        let line = line.as_ref();
        if line == "---" {
            break;
        }
        let line = line.trim_end_matches(' ');
        let leading = line.trim_start_matches(' ');
        if line.is_empty() {
            out.pop();
            out.push_str("\n\n");
        } else if leading.starts_with("TODO") || leading.starts_with('+') {
            continue;
        } else if line.starts_with([' ', '\t']) {
            out.pop();
            out.push('\n');
            out.push_str(line);
            out.push('\n');
        } else {
            out.push_str(line);
            out.push(' ');
        }
    }
    out.trim_start_matches('\n')
        .trim_end_matches('\n')
        .replace("\\\"", "\"")
        .trim_matches(' ')
        .to_owned()
}

/// The paragraph that lists an enumeration's values.
pub fn enum_description(values: &[&Constant]) -> String {
    let mut lines: Vec<String> = values
        .iter()
        .map(|value| {
            let words = value
                .doc
                .iter()
                .filter(|l| !l.trim_start().starts_with('+'))
                .cloned()
                .collect::<Vec<_>>();
            let comment = words.join(" ");
            let comment = comment.trim();
            let comment = comment.strip_prefix(&value.name).unwrap_or(comment).trim();
            let comment = comment.split_whitespace().collect::<Vec<_>>().join(" ");
            format!(" - `{:?}` {comment}", value.value).trim_end().to_owned()
        })
        .collect();
    lines.sort();
    lines.insert(0, "Possible enum values:".to_owned());
    description(&lines)
}
