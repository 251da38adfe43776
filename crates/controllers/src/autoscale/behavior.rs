//! How fast and how far the size may change (`normalizeDesiredReplicas` and `…WithBehaviors`).

use api::Value;
use jiff::{SignedDuration, Timestamp};

use super::calculate::ceiling;
use super::status::Draft;
use super::{Sight, bounds, int};

/// What was recommended and done lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    recommendations: Vec<(Timestamp, i32)>,
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// Without a behavior at most twice as many, but up to this.
const UP_AT_LEAST: f64 = 4.0;
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: (&str, &str) = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const UP_LIMIT: (&str, &str) = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

fn seconds(count: i32) -> SignedDuration {
    SignedDuration::from_secs(count.into())
}

impl Memory {
    /// The first size ever seen counts as recommended.
    pub(super) fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    /// Remembers a change (`storeScaleEvent`).
    pub(super) fn scaled(&mut self, hpa: &Value, from: i32, to: i32, now: Timestamp) {
        let behavior = &hpa["spec"]["behavior"];
        if !behavior.is_object() {
            return;
        }
        let (direction, events) = if to > from {
            ("scaleUp", &mut self.ups)
        } else {
            ("scaleDown", &mut self.downs)
        };
        let longest = Rules::of(&behavior[direction])
            .policies
            .iter()
            .map(|policy| policy.period)
            .max();
        let longest = seconds(longest.unwrap_or(0));
        events.retain(|(time, _)| now.duration_since(*time) <= longest);
        events.push((now, (to - from).abs()));
    }

    fn recommend(&mut self, replicas: i32, window: SignedDuration, now: Timestamp) {
        self.recommendations
            .retain(|(time, _)| now.duration_since(*time) <= window);
        self.recommendations.push((now, replicas));
    }
}

fn changed(events: &[(Timestamp, i32)], period: i32, now: Timestamp) -> i32 {
    let recent = events
        .iter()
        .filter(|(time, _)| now.duration_since(*time) < seconds(period));
    recent.map(|(_, change)| change).sum()
}

struct Policy {
    percent: bool,
    value: i32,
    period: i32,
}

struct Rules {
    window: Option<i32>,
    select: String,
    policies: Vec<Policy>,
}

impl Rules {
    fn of(rules: &Value) -> Self {
        let policy = |one: &Value| Policy {
            percent: one["type"] == "Percent",
            value: int(&one["value"]).unwrap_or(0),
            period: int(&one["periodSeconds"]).unwrap_or(0),
        };
        Self {
            window: int(&rules["stabilizationWindowSeconds"]),
            select: rules["selectPolicy"].as_str().unwrap_or("Max").to_owned(),
            policies: rules["policies"].as_array().into_iter().flatten().map(policy).collect(),
        }
    }

    /// How many replicas the policies allow, upwards or downwards.
    fn limit(&self, current: i32, memory: &Memory, now: Timestamp, up: Direction) -> i32 {
        if self.select == "Disabled" {
            return current;
        }
        let proposals = self.policies.iter().map(|policy| {
            let begun = current - changed(&memory.ups, policy.period, now) + changed(&memory.downs, policy.period, now);
            let share = f64::from(policy.value) / 100.0;
            match (up, policy.percent) {
                (Direction::Up, false) => begun.saturating_add(policy.value),
                (Direction::Up, true) => ceiling(f64::from(begun) * (1.0 + share)),
                (Direction::Down, false) => begun.saturating_sub(policy.value),
                (Direction::Down, true) => (f64::from(begun) * (1.0 - share)) as i32,
            }
        });
        // The least change is the smallest size upwards and the greatest downwards.
        let chosen = if (self.select == "Min") == (up == Direction::Up) {
            proposals.min()
        } else {
            proposals.max()
        };
        chosen.unwrap_or(current)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// The size that the target gets: stabilized, then limited.
pub(super) fn normalize(sight: &Sight<'_>, current: i32, wanted: i32, memory: &mut Memory, draft: &mut Draft) -> i32 {
    let (least, most) = bounds(sight.hpa);
    let behavior = &sight.hpa["spec"]["behavior"];
    let (stable, told, (size, limit)) = if behavior.is_object() {
        let default = i32::try_from(sight.settings.downscale_stabilization.as_secs()).unwrap_or(i32::MAX);
        let (up, down) = (Rules::of(&behavior["scaleUp"]), Rules::of(&behavior["scaleDown"]));
        let windows = (up.window.unwrap_or(0), down.window.unwrap_or(default));
        let (stable, told) = stabilize_both(current, wanted, windows, memory, sight.now);
        let sized = if stable > current {
            let allowed = up.limit(current, memory, sight.now, Direction::Up).max(current);
            let (most, limit) = if most > allowed {
                (allowed, UP_LIMIT)
            } else {
                (most, TOO_MANY)
            };
            if stable > most { (most, limit) } else { (stable, WITHIN) }
        } else if stable < current {
            let allowed = down.limit(current, memory, sight.now, Direction::Down).min(current);
            let (least, limit) = if least < allowed {
                (allowed, DOWN_LIMIT)
            } else {
                (least, TOO_FEW)
            };
            if stable < least {
                (least, limit)
            } else {
                (stable, WITHIN)
            }
        } else {
            (stable, WITHIN)
        };
        (stable, told, sized)
    } else {
        let window = sight.settings.downscale_stabilization;
        let recent = memory
            .recommendations
            .iter()
            .filter(|(time, _)| sight.now.duration_since(*time) <= window);
        let stable = recent.map(|(_, count)| *count).max().unwrap_or(wanted).max(wanted);
        memory.recommend(wanted, window, sight.now);
        let allowed = ceiling((2.0 * f64::from(current)).max(UP_AT_LEAST));
        let (most, limit) = if most > allowed {
            (allowed, UP_LIMIT)
        } else {
            (most, TOO_MANY)
        };
        let sized = if stable < least {
            (least, TOO_FEW)
        } else if stable > most {
            (most, limit)
        } else {
            (stable, WITHIN)
        };
        (stable, DOWN_STABILIZED, sized)
    };
    let (reason, message) = if stable == wanted { READY } else { told };
    draft.set("AbleToScale", "True", reason, message);
    let limited = if size == stable { "False" } else { "True" };
    draft.set("ScalingLimited", limited, limit.0, limit.1);
    size
}

/// `stabilizeRecommendationWithBehaviors`
fn stabilize_both(
    current: i32,
    wanted: i32,
    (up, down): (i32, i32),
    memory: &mut Memory,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    let within = |window: i32| {
        let recent = memory.recommendations.iter();
        recent
            .filter(move |(time, _)| now.duration_since(*time) < seconds(window))
            .map(|(_, count)| *count)
    };
    let floor = within(up).min().map_or(wanted, |least| least.min(wanted));
    let roof = within(down).max().map_or(wanted, |most| most.max(wanted));
    let stable = current.max(floor).min(roof);
    memory.recommend(wanted, seconds(up.max(down)), now);
    let told = if wanted >= current {
        UP_STABILIZED
    } else {
        DOWN_STABILIZED
    };
    (stable, told)
}
