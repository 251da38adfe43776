//! Paths into an object, as stages write them: `.status.phase`, `.metadata.labels["a.b/c"]`,
//! `.metadata.ownerReferences.[].kind`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Member(String),
    Item(usize),
    Every,
}

impl Path {
    /// Reads a path; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let mut segments = Vec::new();
        let mut rest = text.strip_prefix('.')?;
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (index, after) = bracket(inside)?;
                segments.push(index);
                rest = after.strip_prefix('.').unwrap_or(after);
                continue;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            segments.push(Segment::Member(rest[..end].to_owned()));
            rest = &rest[end..];
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        Some(Path(segments))
    }

    /// What stands there; nothing where there is nothing, or null.
    pub(super) fn values<'v>(&self, object: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![object];
        for segment in &self.0 {
            found = found.into_iter().flat_map(|value| segment.of(value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }

    /// The first text that stands there.
    pub(super) fn text<'v>(&self, object: &'v Value) -> Option<&'v str> {
        self.values(object).into_iter().find_map(Value::as_str)
    }
}

impl Segment {
    fn of<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Segment::Member(name) => value.get(name).into_iter().collect(),
            Segment::Item(index) => value.get(index).into_iter().collect(),
            Segment::Every => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(members) => members.values().collect(),
                _ => Vec::new(),
            },
        }
    }
}

fn bracket(inside: &str) -> Option<(Segment, &str)> {
    for quote in ['"', '\''] {
        if let Some(quoted) = inside.strip_prefix(quote) {
            let (name, after) = quoted.split_once(quote)?;
            return Some((Segment::Member(name.to_owned()), after.strip_prefix(']')?));
        }
    }
    let (index, after) = inside.split_once(']')?;
    let segment = match index {
        "" | "*" => Segment::Every,
        _ => Segment::Item(index.parse().ok()?),
    };
    Some((segment, after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_reach_members_items_and_all_of_them() {
        let object = json!({"metadata": {"labels": {"a.b/c": "x"}, "ownerReferences": [{"kind": "Job"}, {"kind": "Y"}]},
            "status": {"phase": "Running", "reason": null}});
        let at = |path: &str| -> Vec<String> {
            let path = Path::parse(path).unwrap();
            path.values(&object).into_iter().map(ToString::to_string).collect()
        };
        assert_eq!(at(".status.phase"), ["\"Running\""]);
        assert_eq!(at(".metadata.labels[\"a.b/c\"]"), ["\"x\""]);
        assert_eq!(at(".metadata.ownerReferences.[].kind"), ["\"Job\"", "\"Y\""]);
        assert_eq!(at(".metadata.ownerReferences[1].kind"), ["\"Y\""]);
        assert!(at(".status.reason").is_empty() && at(".status.podIP").is_empty() && at(".status.phase.x").is_empty());
        for bad in ["status", ".a..b", ".a[", ".a[x]", ".a[\"b]", ".a[\"b\""] {
            assert_eq!(Path::parse(bad), None, "{bad}");
        }
    }
}
