//! Differences that are meant, and why.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn text(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("data").join(name)).expect("the crate's data lies beside it")
}

/// Differences that are not judged yet, as `seed | case | difference`: what the server still owes, or what belongs among
/// the accepted ones. None may come.
pub fn open() -> BTreeSet<String> {
    text("open.txt").lines().map(str::to_owned).collect()
}

/// One line of `data/accepted.txt`: `seed | case | difference | reason`, where `*` stands for any text. A difference
/// that is `old => new` is of two lines, what upstream says and the server does not and the reverse, and its stars
/// stand for the same texts in both.
#[derive(Debug)]
struct Rule {
    line: usize,
    seed: String,
    case: String,
    difference: String,
    instead: Option<String>,
}

/// All rules, and which of them were of use.
#[derive(Debug)]
pub struct Accepted {
    rules: Vec<Rule>,
    used: RefCell<BTreeSet<usize>>,
}

impl Default for Accepted {
    fn default() -> Self {
        let mut rules = Vec::new();
        for (index, line) in text("accepted.txt").lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [seed, case, difference, reason] = parts[..] else {
                panic!("{line}: is not of four parts");
            };
            assert!(!reason.is_empty(), "{line}: has no reason");
            let (difference, instead) = match difference.split_once(" => ") {
                Some((old, new)) => (old, Some(new.to_owned())),
                None => (difference, None),
            };
            rules.push(Rule {
                line: index + 1,
                seed: seed.to_owned(),
                case: case.to_owned(),
                difference: difference.to_owned(),
                instead,
            });
        }
        Self {
            rules,
            used: RefCell::default(),
        }
    }
}

impl Accepted {
    /// The differences of a case that no rule accepts. The code is accepted with all that is said for it.
    pub fn remaining(&self, seed: &str, case: &str, differences: Vec<String>) -> Vec<String> {
        if differences.is_empty() {
            return differences;
        }
        let refusals = |lines: &[String]| lines.iter().filter(|line| line.starts_with("refusal ")).count();
        let said = refusals(&differences);
        let mut left = differences;
        let of_case = |rule: &&Rule| matches(&rule.seed, seed) && matches(&rule.case, case);
        for rule in self.rules.iter().filter(of_case) {
            let before = left.len();
            match &rule.instead {
                None => left.retain(|difference| !matches(&rule.difference, difference)),
                Some(instead) => reworded(&rule.difference, instead, &mut left),
            }
            if left.len() < before {
                self.used.borrow_mut().insert(rule.line);
            }
        }
        if said > 0 && refusals(&left) == 0 {
            left.retain(|line| !line.starts_with("code "));
        }
        left
    }

    /// Lines of the file that accepted nothing.
    pub fn unused(&self) -> Vec<usize> {
        let used = self.used.borrow();
        let lines = self.rules.iter().map(|rule| rule.line);
        lines.filter(|line| !used.contains(line)).collect()
    }
}

/// Takes out the lines that are as `old` says together with what stands for them.
fn reworded(old: &str, new: &str, lines: &mut Vec<String>) {
    let mut gone = BTreeSet::new();
    for line in lines.iter() {
        let Some(stars) = stars(old, line) else { continue };
        let mut stars = stars.into_iter();
        let mut parts = new.split('*');
        let mut instead = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            instead.push_str(stars.next().unwrap_or_default());
            instead.push_str(part);
        }
        if lines.contains(&instead) {
            gone.extend([line.clone(), instead]);
        }
    }
    lines.retain(|line| !gone.contains(line));
}

/// Whether a text is as a pattern says, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    pattern == "*" || stars(pattern, text).is_some()
}

/// What the stars of a pattern stand for in a text, the first ones for as little as they can.
fn stars<'t>(pattern: &str, text: &'t str) -> Option<Vec<&'t str>> {
    let mut parts = pattern.split('*');
    let mut rest = text.strip_prefix(parts.next().unwrap_or_default())?;
    let Some(last) = parts.next_back() else {
        return rest.is_empty().then(Vec::new);
    };
    let mut found = Vec::new();
    for part in parts {
        let at = rest.find(part)?;
        found.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    found.push(rest.strip_suffix(last)?);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("a*c*", "abcd") && matches("*", "") && matches("abc", "abc") && matches("*c", "abc"));
        assert!(!matches("a*d*x", "abcd") && !matches("abc", "abcd") && !matches("b*", "abc"));
        assert_eq!(stars("a*-*c", "ab-x-c"), Some(vec!["b", "x-"]));
    }

    #[test]
    fn what_is_said_in_other_words_goes_in_pairs() {
        let mut lines = vec!["- a: old".to_owned(), "+ a: new".to_owned(), "- b: old".to_owned()];
        reworded("- *: old", "+ *: new", &mut lines);
        assert_eq!(lines, ["- b: old"]);
    }
}
