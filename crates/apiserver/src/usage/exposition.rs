//! The node agent's `/metrics/resource`, in Prometheus' text form.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What something had used at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub cpu_seconds: Option<f64>,
    pub memory_bytes: Option<f64>,
    pub millis: Option<i64>,
    pub started_seconds: Option<f64>,
}

/// Namespace, pod and container.
pub(super) type Name = (String, String, String);

/// All that one answer tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scrape {
    pub node: Point,
    pub containers: BTreeMap<Name, Point>,
}

/// Reads an answer; lines that make no sense are passed over.
pub(super) fn parse(text: &str) -> Scrape {
    let mut scrape = Scrape::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels, value, millis)) = sample(line) else {
            continue;
        };
        let point = if name.starts_with("node_") {
            &mut scrape.node
        } else if name.starts_with("container_") {
            let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
            let name = (label("namespace"), label("pod"), label("container"));
            scrape.containers.entry(name).or_default()
        } else {
            continue;
        };
        match name.split_once('_').map_or("", |(_, rest)| rest) {
            "cpu_usage_seconds_total" => {
                point.cpu_seconds = Some(value);
                point.millis = millis.or(point.millis);
            }
            "memory_working_set_bytes" => {
                point.memory_bytes = Some(value);
                point.millis = point.millis.or(millis);
            }
            "start_time_seconds" => point.started_seconds = Some(value),
            _ => {}
        }
    }
    let now = Timestamp::now().as_millisecond();
    for point in scrape.containers.values_mut().chain([&mut scrape.node]) {
        point.millis = point.millis.or(Some(now));
    }
    scrape
}

type Sample<'a> = (&'a str, BTreeMap<&'a str, String>, f64, Option<i64>);

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.trim(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let mut fields = rest.split_whitespace();
    let value = fields.next()?.parse().ok()?;
    let millis = fields.next().and_then(|text| text.parse().ok());
    Some((name, labels, value, millis))
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let text = "# HELP x y\n\
            container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"p\"} 1.5 1000\n\
            container_memory_working_set_bytes{container=\"c\",namespace=\"ns\",pod=\"p\"} 1.048576e+06 1000\n\
            container_start_time_seconds{container=\"c\",namespace=\"ns\",pod=\"p\"} 0.5\n\
            pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"p\"} 9 1000\n\
            node_cpu_usage_seconds_total 10 2000\nnode_memory_working_set_bytes 5 2000\n\
            broken{a=\"b 1\nscrape_error 0\n";
        let scrape = parse(text);
        let point = Point {
            cpu_seconds: Some(1.5),
            memory_bytes: Some(1_048_576.0),
            millis: Some(1000),
            started_seconds: Some(0.5),
        };
        let name = ("ns".to_owned(), "p".to_owned(), "c".to_owned());
        assert_eq!(scrape.containers, BTreeMap::from([(name, point)]));
        assert_eq!((scrape.node.cpu_seconds, scrape.node.millis), (Some(10.0), Some(2000)));
    }

    #[test]
    fn labels_may_hold_anything() {
        let (_, labels, value, _) = sample(r#"m{a="x\"}\\,",b=""} 2"#).unwrap();
        assert_eq!(
            (labels["a"].as_str(), labels["b"].as_str(), value),
            ("x\"}\\,", "", 2.0)
        );
    }
}
