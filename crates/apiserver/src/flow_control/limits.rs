//! How many seats each level gets, and how they are lent (`flowcontrol/apf_controller.go` updateBorrowing,
//! `conc_alloc.go`). Pure.

/// The seats of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Its share of the server's.
    pub nominal: u32,
    /// What it keeps when it lends all it may.
    pub least: u32,
    /// What it has when it borrows all it may.
    pub most: u32,
}

/// What a level wants to be given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wish {
    pub least: f64,
    pub most: f64,
    pub target: f64,
}

/// A level's part of all seats, by its shares of the sum of shares, rounded up.
pub(super) fn nominal(total: u32, shares: u32, sum: u32) -> u32 {
    (f64::from(total) * f64::from(shares) / f64::from(sum.max(1))).ceil() as u32
}

/// The limits of a level that lends and borrows these percentages of its nominal seats; `None` borrows without limit.
pub(super) fn limits(nominal: u32, lends: u32, borrows: Option<u32>, total: u32) -> Limits {
    let part = |percent: u32| (f64::from(nominal) * f64::from(percent) / 100.0).round() as u32;
    Limits {
        nominal,
        least: nominal - part(lends.min(100)),
        most: borrows.map_or(nominal.max(total), |percent| nominal + part(percent)),
    }
}

/// Gives all seats away: every level gets the same fraction of its target, but within its bounds.
pub(super) fn allocate(total: f64, wishes: &[Wish]) -> Vec<f64> {
    let given = |fraction: f64| -> Vec<f64> {
        let one = |wish: &Wish| (wish.target * fraction).clamp(wish.least, wish.most.max(wish.least));
        wishes.iter().map(one).collect()
    };
    // The sum grows with the fraction: halve the interval until it is found.
    let (mut low, mut high) = (0.0, 1.0);
    let sum = |fraction: f64| given(fraction).iter().sum::<f64>();
    while sum(high) < total && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if sum(middle) < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    given(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_seats() {
        // Upstream's defaults with 600 seats: 245 shares in all.
        assert_eq!(nominal(600, 30, 245), 74);
        assert_eq!(nominal(600, 5, 245), 13);
        let limits = limits(74, 33, None, 600);
        assert_eq!((limits.least, limits.most), (50, 600));
        assert_eq!(
            super::limits(10, 50, Some(100), 600),
            Limits {
                nominal: 10,
                least: 5,
                most: 20
            }
        );
    }

    #[test]
    fn who_needs_more_gets_what_others_do_not_need() {
        let wish = |least: f64, target: f64| Wish {
            least,
            most: 100.0,
            target,
        };
        let given = allocate(100.0, &[wish(10.0, 80.0), wish(10.0, 10.0), wish(10.0, 10.0)]);
        assert!((given.iter().sum::<f64>() - 100.0).abs() < 1e-6);
        assert!(given[0] > 75.0 && given[1] >= 10.0, "{given:?}");
        let bounded = allocate(
            100.0,
            &[
                Wish {
                    most: 30.0,
                    ..wish(10.0, 80.0)
                },
                wish(10.0, 10.0),
            ],
        );
        assert!(
            (bounded[0] - 30.0).abs() < 1e-6 && (bounded[1] - 70.0).abs() < 1e-3,
            "{bounded:?}"
        );
    }
}
