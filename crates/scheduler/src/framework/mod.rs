//! What plugins are to the scheduler, and profiles that put them in order (upstream pkg/scheduler/framework).

mod event;
mod plugin;
mod profile;
mod rejection;

pub use event::{Action, Event, Registration, Resource, Shared};
pub use plugin::{
    Binding, Context, Filter, Permit, Plugin, PostFilter, PostFilterContext, PreBind, PreFilter, PreScore, Scorer,
    Verb, Write,
};
pub use profile::{Point, Profile};
pub use rejection::{Code, Reasons, Rejection};

/// The largest score a plugin may give after normalisation (upstream `MaxNodeScore`).
pub const MAX_SCORE: i64 = 100;

/// Which scores are good before they are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Large ones.
    HighIsGood,
    /// Small ones.
    LowIsGood,
}

/// Scales scores to 0..=100 by the largest (upstream `DefaultNormalizeScore`).
pub fn default_normalize(scores: &mut [i64], order: Order) {
    let largest = scores.iter().copied().max().unwrap_or(0).max(0);
    for score in scores {
        if largest > 0 {
            *score = MAX_SCORE * *score / largest;
        }
        if order == Order::LowIsGood {
            *score = MAX_SCORE - *score;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_scaled_by_the_largest() {
        let cases: [(&[i64], Order, &[i64]); 4] = [
            (&[1, 2, 3, 4], Order::HighIsGood, &[25, 50, 75, 100]),
            (&[1, 2, 3, 4], Order::LowIsGood, &[75, 50, 25, 0]),
            (&[0, 0], Order::HighIsGood, &[0, 0]),
            (&[0, 0], Order::LowIsGood, &[100, 100]),
        ];
        for (scores, order, expected) in cases {
            let mut scores = scores.to_vec();
            default_normalize(&mut scores, order);
            assert_eq!(scores, expected);
        }
    }
}
