//! Lists of the indexes of a job's pods: `1,3-5,7`.

use api::field::go_quote;

/// How many indexes the list names, each below `completions`.
pub(super) fn count(list: &str, completions: i64) -> Result<i64, String> {
    let mut last = None;
    let mut total = 0;
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(not_increasing(last, from));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The first index that both lists name; parts that cannot be read are left out.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let read = |list: &str| -> Vec<(i64, i64)> {
        list.split(',')
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let others = read(other);
    let mut shared = read(one).into_iter().flat_map(|(from, to)| {
        let meet = others.iter().filter(move |(a, b)| from <= *b && *a <= to);
        meet.map(move |(a, _)| from.max(*a))
    });
    shared.next()
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", go_quote(text)))?;
        if number >= completions {
            return Err(format!("too large index: {}", go_quote(text)));
        }
        Ok(number)
    };
    let limits: Vec<&str> = part.split('-').collect();
    match limits[..] {
        [one] => index(one).map(|one| (one, one)),
        [from, to] => {
            let (from, to) = (index(from)?, index(to)?);
            if from >= to {
                return Err(not_increasing(from, to));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(part)
        )),
    }
}

fn not_increasing(before: i64, after: i64) -> String {
    format!("non-increasing order, previous: {before}, current: {after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (list, wrong) in [
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            ("5", "too large index: \"5\""),
            ("a", "cannot convert string to integer for index: \"a\""),
        ] {
            assert_eq!(count(list, 5), Err(wrong.to_owned()), "{list}");
        }
        assert!(count("1-2-3", 5).is_err());
    }

    #[test]
    fn lists_may_overlap() {
        assert_eq!(overlap("0-2,5", "3-4", 10), None);
        assert_eq!(overlap("0-2,5", "2-4", 10), Some(2));
    }
}
