//! Whether quotas allow a request, and what is used if it is carried out (upstream
//! `apiserver/pkg/admission/plugin/resourcequota/controller.go`, CheckRequest).

use std::collections::BTreeSet;

use api::{GroupResource, Value, meta};
use jiff::Timestamp;

use crate::amounts::{self, Amounts};
use crate::{Evaluator, Operation, Requirement, at};

/// A quota as admission looks at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// The limits in force: its status', not its spec's.
    pub hard: Amounts,
    /// What is used.
    pub used: Amounts,
    /// Which objects it is about.
    pub scopes: Vec<Requirement>,
}

impl Quota {
    /// Reads a `ResourceQuota`.
    pub fn read(quota: &Value) -> Self {
        Self {
            name: meta::name(quota).to_owned(),
            hard: amounts::read(at(quota, "status.hard")),
            used: amounts::read(at(quota, "status.used")),
            scopes: Requirement::of_quota(quota),
        }
    }

    /// Whether the object counts against it.
    pub fn matches(&self, evaluator: &Evaluator, object: &Value) -> bool {
        self.hard.keys().any(|name| evaluator.matches_resource(name))
            && self
                .scopes
                .iter()
                .all(|requirement| evaluator.matches_scope(requirement, object))
    }
}

/// A resource that nobody may use without a quota for it
/// (`resourcequota.admission.k8s.io` LimitedResource).
#[derive(Clone, Debug, PartialEq)]
pub struct Limited {
    /// The resource.
    pub resource: GroupResource,
    /// Parts of the names that are limited.
    pub match_contains: Vec<String>,
    /// Scopes that are limited.
    pub match_scopes: Vec<Requirement>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The resource.
    pub resource: &'a GroupResource,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// What is done.
    pub operation: Operation,
    /// The object as it will be.
    pub object: &'a Value,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// The time.
    pub now: Timestamp,
}

/// The quotas whose `used` moves, by their place in `quotas`, with what it moves to.
///
/// # Errors
/// Why it is not allowed, in upstream's words.
pub fn check(quotas: &[Quota], request: &Request<'_>, limited: &[Limited]) -> Result<Vec<(usize, Amounts)>, String> {
    let evaluator = Evaluator::of(request.resource);
    let object = request.object;
    if !evaluator.handles(request.operation, request.subresource, object, request.old) {
        return Ok(Vec::new());
    }
    let interesting = interesting(quotas, &evaluator, object)?;
    let usage = evaluator.usage(object, request.now);
    let negative: Vec<&str> = usage
        .iter()
        .filter(|(_, amount)| amount.signum() < 0)
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        return Err(format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        ));
    }
    // What was created by an update is charged whole.
    let before = request
        .old
        .filter(|old| request.operation == Operation::Update && !meta::resource_version(old).is_empty());
    let delta = match before {
        Some(old) => amounts::subtract_floor(&usage, &evaluator.usage(old, request.now)),
        None => usage.clone(),
    };
    let charge_of = |quota: &Quota| {
        let counted = before.is_some_and(|old| quota.matches(&evaluator, old));
        amounts::without_zeros(if counted { delta.clone() } else { usage.clone() })
    };
    let mut charges: Vec<(usize, Amounts)> = interesting.iter().map(|at| (*at, charge_of(&quotas[*at]))).collect();
    charges.retain(|(_, charge)| !charge.is_empty());
    let moves = !charges.is_empty() || (interesting.is_empty() && !amounts::without_zeros(delta).is_empty());
    if !moves {
        return Ok(Vec::new());
    }
    check_covered(quotas, &interesting, &evaluator, request, &usage, limited)?;
    let mut moved = Vec::new();
    for (at, charge) in charges {
        let quota = &quotas[at];
        let charge = amounts::mask(&charge, quota.hard.keys());
        let mut used = quota.used.clone();
        amounts::add(&mut used, &charge);
        // A status tells of what has happened already.
        if request.subresource != "status" {
            check_exceeded(quota, &charge, &used)?;
        }
        if used != quota.used {
            moved.push((at, used));
        }
    }
    Ok(moved)
}

/// The quotas that the object counts against, ready to be charged.
fn interesting(quotas: &[Quota], evaluator: &Evaluator, object: &Value) -> Result<Vec<usize>, String> {
    let mut interesting = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        if !quota.matches(evaluator, object) {
            continue;
        }
        let names: Vec<String> = quota
            .hard
            .keys()
            .filter(|name| evaluator.matches_resource(name))
            .cloned()
            .collect();
        evaluator
            .constraints(&names, object)
            .map_err(|why| format!("failed quota: {}: {why}", quota.name))?;
        if names.iter().any(|name| !quota.used.contains_key(name)) {
            return Err(format!(
                "status unknown for quota: {}, resources: {}",
                quota.name,
                names.join(",")
            ));
        }
        interesting.push(at);
    }
    Ok(interesting)
}

/// Whether a quota covers everything that the configuration limits.
fn check_covered(
    quotas: &[Quota],
    interesting: &[usize],
    evaluator: &Evaluator,
    request: &Request<'_>,
    usage: &Amounts,
    limited: &[Limited],
) -> Result<(), String> {
    let covered = |name: &str| {
        interesting
            .iter()
            .any(|at| quotas[*at].hard.contains_key(name) && evaluator.matches_resource(name))
    };
    let parts: Vec<&String> = limited
        .iter()
        .filter(|limited| limited.resource == *request.resource)
        .flat_map(|limited| &limited.match_contains)
        .collect();
    let bare: BTreeSet<&str> = usage
        .iter()
        .filter(|(name, amount)| amount.signum() > 0 && parts.iter().any(|part| name.contains(part.as_str())))
        .map(|(name, _)| name.as_str())
        .filter(|name| !covered(name))
        .collect();
    if !bare.is_empty() {
        let bare: Vec<&str> = bare.into_iter().collect();
        return Err(format!("insufficient quota to consume: {}", bare.join(",")));
    }
    if !evaluator.knows_scopes() {
        return Ok(());
    }
    let object = request.object;
    let within = |requirement: &&Requirement| evaluator.matches_scope(requirement, object);
    let given: BTreeSet<&str> = quotas
        .iter()
        .flat_map(|quota| quota.scopes.iter().filter(within))
        .map(|requirement| requirement.scope.as_str())
        .collect();
    let bare: Vec<String> = limited
        .iter()
        .flat_map(|limited| limited.match_scopes.iter().filter(within))
        .filter(|requirement| !given.contains(requirement.scope.as_str()))
        .map(Requirement::to_string)
        .collect();
    if bare.is_empty() {
        return Ok(());
    }
    Err(format!(
        "insufficient quota to match these scopes: [{}]",
        bare.join(" ")
    ))
}

fn check_exceeded(quota: &Quota, charge: &Amounts, used: &Amounts) -> Result<(), String> {
    let exceeded = amounts::exceeding(&amounts::mask(used, charge.keys()), &quota.hard);
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| amounts::pretty(&amounts::mask(amounts, &exceeded));
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.name,
        show(charge),
        show(&quota.used),
        show(&quota.hard)
    ))
}

#[cfg(test)]
mod tests;
