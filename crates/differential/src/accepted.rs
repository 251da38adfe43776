//! Differences that are meant, and why.

use std::cell::RefCell;
use std::collections::BTreeSet;

const TEXT: &str = include_str!("../data/accepted.txt");

/// One line of `data/accepted.txt`: `seed | case | line of difference | reason`, where `*` stands for
/// any text.
#[derive(Debug)]
struct Rule {
    line: usize,
    seed: String,
    case: String,
    difference: String,
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
        for (index, line) in TEXT.lines().enumerate() {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            if let [seed, case, difference, _reason] = parts[..]
                && !line.starts_with('#')
            {
                rules.push(Rule {
                    line: index + 1,
                    seed: seed.to_owned(),
                    case: case.to_owned(),
                    difference: difference.to_owned(),
                });
            }
        }
        Self {
            rules,
            used: RefCell::default(),
        }
    }
}

impl Accepted {
    /// The differences of a case that no rule accepts.
    pub fn remaining(&self, seed: &str, case: &str, differences: Vec<String>) -> Vec<String> {
        let accepted = |difference: &String| {
            let rule = self
                .rules
                .iter()
                .find(|rule| glob(&rule.seed, seed) && glob(&rule.case, case) && glob(&rule.difference, difference));
            if let Some(rule) = rule {
                self.used.borrow_mut().insert(rule.line);
            }
            rule.is_some()
        };
        differences
            .into_iter()
            .filter(|difference| !accepted(difference))
            .collect()
    }

    /// Lines of the file that accepted nothing.
    pub fn unused(&self) -> Vec<usize> {
        let used = self.used.borrow();
        let lines = self.rules.iter().map(|rule| rule.line);
        lines.filter(|line| !used.contains(line)).collect()
    }
}

/// Whether a text is as a pattern says, where `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn stars_stand_for_any_text() {
        assert!(glob("a*c*", "abcd") && glob("*", "") && glob("abc", "abc") && glob("*c", "abc"));
        assert!(!glob("a*d*x", "abcd") && !glob("abc", "abcd") && !glob("b*", "abc"));
    }
}
