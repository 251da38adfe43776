//! What goes wrong: at every write of every controller one of several things may happen.

use std::collections::BTreeSet;

use crate::rng::Rng;

/// What goes wrong at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The controller dies before it: memory, queue, notes and expectations are lost.
    CrashBefore,
    /// The controller dies after it, before it knows of it.
    CrashAfter,
    /// All controllers die after it.
    CrashAll,
    /// It is done, but the answer is lost.
    AnswerLost,
    /// The controller's caches stand still for a while, then see everything in order.
    Stale,
    /// Its watches break: it sees nothing for a while, then only the difference.
    Relist,
    /// Its queue hears of nothing for a while.
    Deaf,
}

const FAULTS: [Fault; 7] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::CrashAll,
    Fault::AnswerLost,
    Fault::Stale,
    Fault::Relist,
    Fault::Deaf,
];

/// Which faults happen. The fault of a write depends on the seed and the write's number alone.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    seed: u64,
    /// How many of a thousand writes go wrong; none outside tests of faults.
    pub per_mille: u64,
    /// Writes that are left alone, to find out which faults matter.
    pub spared: BTreeSet<u64>,
    writes: u64,
    /// What went wrong.
    pub happened: Vec<(u64, Fault)>,
    /// What is still to be done to whom.
    pub due: Vec<(usize, Fault, Rng)>,
}

impl Faults {
    /// The faults of a seed.
    pub fn new(seed: u64, per_mille: u64, spared: BTreeSet<u64>) -> Self {
        Self {
            seed,
            per_mille,
            spared,
            ..Self::default()
        }
    }

    /// What goes wrong at the next write, which `actor` makes.
    pub fn at_write(&mut self, actor: usize) -> Option<Fault> {
        if self.per_mille == 0 {
            return None;
        }
        self.writes += 1;
        let mut rng = Rng::new(self.seed ^ self.writes.wrapping_mul(0x2545_F491_4F6C_DD1D), 2);
        if !rng.chance(self.per_mille) || self.spared.contains(&self.writes) {
            return None;
        }
        let fault = *rng.pick(&FAULTS);
        self.happened.push((self.writes, fault));
        if fault != Fault::AnswerLost {
            self.due.push((actor, fault, rng));
        }
        Some(fault)
    }
}
