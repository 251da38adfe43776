//! Whether one set of rules grants all that another does: the check against escalation
//! (`component-helpers/auth/rbac/validation/policy_comparator.go`).

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;

/// What `wanted` grants and `held` does not, in upstream's compact notation; empty if nothing.
pub(crate) fn missing_rules(held: &[Rule], wanted: &[Rule]) -> BTreeSet<String> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(atoms)
        .filter(|atom| !held.iter().any(|rule| covers(rule, atom)))
        .collect();
    compact(missing).iter().map(describe).collect()
}

/// The rule as rules of one group, resource, verb and name each.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let atom = Rule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: one(verb),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                atoms.extend(rule.resource_names.iter().map(|name| Rule {
                    resource_names: one(name),
                    ..atom.clone()
                }));
            }
        }
        atoms.extend(rule.non_resource_urls.iter().map(|url| Rule {
            non_resource_urls: one(url),
            verbs: one(verb),
            ..Rule::default()
        }));
    }
    atoms
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|entry| entry == item)
}

fn covers(rule: &Rule, atom: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| has(held, "*") || wanted.iter().all(|item| has(held, item));
    let resource = |path: &String| {
        has(&rule.resources, "*")
            || has(&rule.resources, path)
            || path
                .split_once('/')
                .is_some_and(|(_, sub)| has(&rule.resources, &format!("*/{sub}")))
    };
    let url = |path: &String| {
        rule.non_resource_urls
            .iter()
            .any(|held| held == path || held.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix)))
    };
    all(&rule.verbs, &atom.verbs)
        && all(&rule.api_groups, &atom.api_groups)
        && atom.resources.iter().all(resource)
        && atom.non_resource_urls.iter().all(url)
        && (rule.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom.resource_names.iter().all(|name| has(&rule.resource_names, name))))
}

/// Joins the verbs of rules that are otherwise equal and name one resource (`CompactRules`).
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut by_resource: BTreeMap<(String, String, Vec<String>), usize> = BTreeMap::new();
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let (Some(group), Some(resource)) = (rule.api_groups.first(), rule.resources.first()) else {
            out.push(rule);
            continue;
        };
        let key = (group.clone(), resource.clone(), rule.resource_names.clone());
        match by_resource.get(&key) {
            Some(at) => out[*at].verbs.extend(rule.verbs),
            None => {
                by_resource.insert(key, out.len());
                out.push(rule);
            }
        }
    }
    out
}

fn describe(rule: &Rule) -> String {
    let list = |items: &[String]| {
        let quoted: Vec<String> = items.iter().map(|i| api::field::go_quote(i)).collect();
        format!("[{}]", quoted.join(" "))
    };
    let mut parts = Vec::new();
    for (name, items) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            parts.push(format!("{name}:{}", list(items).replace("\" \"", "\", \"")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            api_groups: owned(groups),
            resources: owned(resources),
            verbs: owned(verbs),
            ..Rule::default()
        }
    }

    #[test]
    fn stars_and_subresources_cover() {
        let held = [rule(&["*"], &["pods", "*/scale"], &["get", "list"])];
        let none = BTreeSet::new();
        assert_eq!(missing_rules(&held, &[rule(&[""], &["pods"], &["get"])]), none);
        assert_eq!(
            missing_rules(&held, &[rule(&["apps"], &["deployments/scale"], &["get"])]),
            none
        );
        let missing = missing_rules(&held, &[rule(&[""], &["pods", "secrets"], &["get", "watch"])]);
        let want = [
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch"]}"#,
            r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get", "watch"]}"#,
        ];
        assert_eq!(missing.iter().map(String::as_str).collect::<Vec<_>>(), want);
    }
}
