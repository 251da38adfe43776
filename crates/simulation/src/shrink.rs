//! Makes a failing trial small: fewer deeds, fewer faults, as long as it still fails.

use crate::Trial;

/// Runs that shrinking may cost.
const MOST_RUNS: usize = 200;

/// The smallest trial found that still fails.
pub fn shrink(trial: Trial) -> Trial {
    let mut best = trial;
    let mut runs = 0;
    let mut fails = |trial: &Trial| {
        runs += 1;
        runs <= MOST_RUNS && !trial.run().wrong.is_empty()
    };
    let mut size = best.history.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.history.len() {
            let mut smaller = best.clone();
            smaller.history.drain(at..(at + size).min(best.history.len()));
            if fails(&smaller) {
                best = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    spare(&mut best, &mut fails);
    best
}

fn spare(best: &mut Trial, fails: &mut impl FnMut(&Trial) -> bool) {
    let mut size = best.run().with.faults.len();
    while size > 0 {
        let mut at = 0;
        loop {
            let happened = best.run().with.faults;
            if at >= happened.len() {
                break;
            }
            let mut smaller = best.clone();
            let spared = happened[at..(at + size).min(happened.len())]
                .iter()
                .map(|(write, _)| *write);
            smaller.settings.spared.extend(spared);
            if fails(&smaller) {
                *best = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
}
