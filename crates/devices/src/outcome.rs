//! What is written into a claim's status.

use api::Value;
use serde_json::{Map, json};

use crate::request::Claim;
use crate::search::{Candidate, Given};
use crate::slice::Place;

/// The allocation of a claim (`AllocationResult`).
///
/// # Errors
/// A node selector is of a form that none should have.
pub(crate) fn allocation(
    claim: &Claim<'_>,
    given: &[Given],
    candidates: &[Candidate],
    chosen: &dyn Fn(usize) -> usize,
) -> Result<Value, String> {
    let results: Vec<Value> = given.iter().map(|given| result(claim, given, candidates)).collect();
    let mut devices = json!({"results": results});
    let config = config(claim, chosen);
    if !config.is_empty() {
        devices["config"] = config.into();
    }
    let mut allocation = json!({"devices": devices});
    if let Some(selector) = node_selector(given, candidates)? {
        allocation["nodeSelector"] = selector;
    }
    Ok(allocation)
}

fn result(claim: &Claim<'_>, given: &Given, candidates: &[Candidate]) -> Value {
    let request = &claim.requests[given.request][given.alternative];
    let candidate = &candidates[given.candidate];
    let mut result = json!({
        "request": request.full_name(),
        "driver": candidate.slice.driver,
        "pool": candidate.slice.pool,
        "device": candidate.device().name,
    });
    if request.admin {
        result["adminAccess"] = true.into();
    }
    if !request.tolerations.is_empty() {
        result["tolerations"] = request.tolerations.clone().into();
    }
    result
}

/// Configurations of classes, each once, and of the claim; what is for all requests names none.
fn config(claim: &Claim<'_>, chosen: &dyn Fn(usize) -> usize) -> Vec<Value> {
    let mut all: Vec<(Value, Vec<String>, &str)> = Vec::new();
    let mut of_class: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
    for (index, alternatives) in claim.requests.iter().enumerate() {
        let request = &alternatives[chosen(index)];
        let class = request.class["metadata"]["name"].as_str().unwrap_or("");
        if let Some((_, range)) = of_class.iter().find(|(known, _)| *known == class) {
            for (_, requests, _) in &mut all[range.clone()] {
                requests.push(request.full_name());
            }
            continue;
        }
        let begin = all.len();
        for config in request.class["spec"]["config"].as_array().into_iter().flatten() {
            all.push((config.clone(), vec![request.full_name()], "FromClass"));
        }
        of_class.push((class, begin..all.len()));
    }
    for config in claim.object["spec"]["devices"]["config"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let named = config["requests"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let named: Vec<String> = named.map(str::to_owned).collect();
        let concerns = claim.requests.iter().enumerate().any(|(index, alternatives)| {
            let request = &alternatives[chosen(index)];
            named
                .iter()
                .any(|name| name == request.base_name() || *name == request.full_name())
        });
        if named.is_empty() || concerns {
            all.push((config.clone(), named, "FromClaim"));
        }
    }
    let written = all.into_iter().map(|(config, requests, source)| {
        let mut fields: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
        fields.insert("source".to_owned(), source.into());
        if requests.is_empty() || requests.len() == claim.requests.len() {
            fields.remove("requests");
        } else {
            fields.insert("requests".to_owned(), requests.into());
        }
        Value::Object(fields)
    });
    written.collect()
}

/// Where all of the devices can be used; none is everywhere.
fn node_selector(given: &[Given], candidates: &[Candidate]) -> Result<Option<Value>, String> {
    let (mut fields, mut expressions): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for given in given {
        let candidate = &candidates[given.candidate];
        let place = match candidate.slice.by_device {
            true => &candidate.device().place,
            false => &candidate.slice.place,
        };
        match place {
            Place::Node(name) => {
                let field = json!({"key": "metadata.name", "operator": "In", "values": [name]});
                return Ok(Some(json!({"nodeSelectorTerms": [{"matchFields": [field]}]})));
            }
            Place::Selected(selector) => {
                let terms = selector["nodeSelectorTerms"].as_array().map_or(&[][..], Vec::as_slice);
                let [term] = terms else {
                    return Err(format!(
                        "unsupported ResourceSlice.NodeSelector with {} terms",
                        terms.len()
                    ));
                };
                for (all, name) in [(&mut fields, "matchFields"), (&mut expressions, "matchExpressions")] {
                    for requirement in term[name].as_array().into_iter().flatten() {
                        if !all.contains(requirement) {
                            all.push(requirement.clone());
                        }
                    }
                }
            }
            Place::All | Place::Unknown => {}
        }
    }
    let mut term = json!({});
    for (name, all) in [("matchFields", fields), ("matchExpressions", expressions)] {
        if !all.is_empty() {
            term[name] = all.into();
        }
    }
    let restricts = term.as_object().is_some_and(|term| !term.is_empty());
    Ok(restricts.then(|| json!({"nodeSelectorTerms": [term]})))
}
