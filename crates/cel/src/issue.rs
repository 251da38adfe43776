//! What is wrong with an expression's text, with its place, as cel-go writes it (common/error.go).

use std::fmt;
use std::sync::Arc;

/// One thing that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Line, from 1; -1 when the issue has no place.
    pub line: i32,
    /// Column in code points, from 0; -1 when the issue has no place.
    pub column: i32,
    /// What is wrong.
    pub message: String,
}

/// Everything that is wrong with an expression: an error that prints as cel-go's
/// `ERROR: <input>:1:5: …` with the line and a mark under the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Issues {
    source_text: Arc<str>,
    issues: Vec<Issue>,
    total: usize,
}

/// Issues that are kept; more are only counted.
const MAX_ISSUES: usize = 100;
/// The longest line that is shown.
const MAX_SNIPPET_BYTES: usize = 16_384;

impl Issues {
    pub(crate) fn new(source_text: Arc<str>) -> Self {
        Self {
            source_text,
            issues: Vec::new(),
            total: 0,
        }
    }

    pub(crate) fn report(&mut self, (line, column): (i32, i32), message: String) {
        self.total += 1;
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue { line, column, message });
        }
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.issues.sort_by_key(|issue| (issue.line, issue.column));
        self
    }

    /// The issues in the order of the text.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn show(&self, issue: &Issue, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "ERROR: <input>:{}:{}: {}",
            issue.line,
            issue.column + 1,
            issue.message
        )?;
        let Some(line) = usize::try_from(issue.line)
            .ok()
            .and_then(|line| line.checked_sub(1))
            .and_then(|line| self.source_text.split('\n').nth(line))
            .filter(|line| line.len() <= MAX_SNIPPET_BYTES)
        else {
            return Ok(());
        };
        let line = line.replace('\t', " ");
        write!(out, "\n | {line}\n | ")?;
        let mut characters = line.chars();
        for _ in 0..issue.column.max(0) {
            match characters.next() {
                Some(c) if c.len_utf8() > 1 => out.write_str("\u{ff0e}")?,
                Some(_) => out.write_str(".")?,
                None => break,
            }
        }
        match characters.next() {
            Some(c) if c.len_utf8() > 1 => out.write_str("\u{ff3e}"),
            _ => out.write_str("^"),
        }
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            self.show(issue, out)?;
        }
        if self.total > self.issues.len() {
            write!(out, "\n{} more errors were truncated", self.total - self.issues.len())?;
        }
        Ok(())
    }
}
