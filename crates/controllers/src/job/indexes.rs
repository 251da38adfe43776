//! Sets of completion indexes, as the status writes them: `1,3-5,7` (upstream `indexed_job_utils.go`).

use std::collections::BTreeSet;
use std::fmt;

/// Ranges in order, without neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads what a status says, below a limit; what cannot be read is passed over.
    pub(super) fn parse(text: &str, limit: i32) -> Self {
        let mut indexes = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                indexes.add(first, last.min(limit - 1));
            }
        }
        indexes
    }

    /// Adds all from `first` to `last`.
    pub(super) fn add(&mut self, first: i32, last: i32) {
        if first < 0 || last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        self.0.retain(|(from, to)| {
            let apart = *from > last.saturating_add(1) || to.saturating_add(1) < first;
            if !apart {
                first = first.min(*from);
                last = last.max(*to);
            }
            apart
        });
        let at = self.0.partition_point(|(from, _)| *from < first);
        self.0.insert(at, (first, last));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (first, last) in &other.0 {
            self.add(*first, *last);
        }
    }

    pub(super) fn has(&self, index: i32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&index))
    }

    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many of `other` are in it.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let overlaps = self
            .0
            .iter()
            .flat_map(|(a, b)| other.0.iter().map(move |(c, d)| (*b.min(d) - *a.max(c) + 1).max(0)));
        overlaps.sum()
    }

    /// The first that are not in it, below a limit.
    pub(super) fn missing(&self, count: usize, limit: i32) -> Vec<i32> {
        let (mut missing, mut next) = (Vec::new(), 0);
        for (first, last) in self.0.iter().copied().chain([(limit, limit)]) {
            while next < first.min(limit) && missing.len() < count {
                missing.push(next);
                next += 1;
            }
            next = next.max(last.saturating_add(1));
        }
        missing
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(all: I) -> Self {
        let mut indexes = Self::default();
        for index in all.into_iter().collect::<BTreeSet<_>>() {
            indexes.add(index, index);
        }
        indexes
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_read_back() {
        let indexes: Indexes = [5, 1, 3, 4, 8, 7].into_iter().collect();
        assert_eq!(indexes.to_string(), "1,3-5,7,8");
        assert_eq!(Indexes::parse("1,3-5,7,8", 100), indexes);
        assert_eq!(Indexes::parse("1,x,3-5,7-9", 5).to_string(), "1,3,4");
        assert_eq!(indexes.total(), 6);
        assert_eq!(indexes.missing(3, 10), [0, 2, 6]);
        assert_eq!(indexes.missing(9, 10), [0, 2, 6, 9]);
        assert_eq!(indexes.common(&Indexes::parse("0-4", 10)), 3);
        assert!(indexes.has(4) && !indexes.has(6));
    }
}
