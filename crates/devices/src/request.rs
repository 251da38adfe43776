//! What claims ask for.

use std::sync::Arc;

use api::{Value, meta};

use crate::Stock;

/// How many devices are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Exactly(usize),
    All,
}

/// A request that devices are given to: a request itself, or one of its alternatives.
pub(crate) struct Request {
    pub name: String,
    /// The request that this is an alternative of.
    pub parent: Option<String>,
    pub class: Arc<Value>,
    pub amount: Amount,
    pub admin: bool,
    pub selectors: Vec<String>,
    pub tolerations: Vec<Value>,
}

impl Request {
    /// As results and configurations call it.
    pub fn full_name(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{parent}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The request as the claim lists it.
    pub fn base_name(&self) -> &str {
        self.parent.as_deref().unwrap_or(&self.name)
    }
}

/// What all devices of some requests have in common.
pub(crate) enum Rule {
    /// The same value of an attribute.
    Match(String),
    /// Each another value.
    Distinct(String),
}

/// A constraint of a claim.
pub(crate) struct Constraint {
    pub rule: Rule,
    /// Requests and alternatives that it is about; all, if there are none.
    requests: Vec<String>,
}

impl Constraint {
    pub fn is_about(&self, request: &Request) -> bool {
        self.requests.is_empty()
            || self
                .requests
                .iter()
                .any(|name| name == request.base_name() || *name == request.full_name())
    }
}

/// A claim.
pub(crate) struct Claim<'c> {
    pub object: &'c Value,
    pub id: String,
    /// Alternatives by request; most have one.
    pub requests: Vec<Vec<Request>>,
    pub constraints: Vec<Constraint>,
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

impl<'c> Claim<'c> {
    /// Reads a claim.
    ///
    /// # Errors
    /// What is not understood, in upstream's words.
    pub fn of(object: &'c Value, stock: &Stock<'_>) -> Result<Claim<'c>, String> {
        let id = format!("{}/{}", meta::namespace(object), meta::name(object));
        let devices = &object["spec"]["devices"];
        let mut requests = Vec::new();
        for request in items(devices, "requests") {
            let name = request["name"].as_str().unwrap_or("");
            let alternatives = items(request, "firstAvailable");
            let read = |part: &Value, name: &str, parent: Option<&str>| read(&id, part, name, parent, stock);
            requests.push(if alternatives.is_empty() {
                vec![read(&request["exactly"], name, None)?]
            } else {
                let all = alternatives
                    .iter()
                    .map(|part| read(part, part["name"].as_str().unwrap_or(""), Some(name)));
                all.collect::<Result<Vec<_>, _>>()?
            });
        }
        let mut constraints = Vec::new();
        for (index, constraint) in items(devices, "constraints").iter().enumerate() {
            let text = |field: &str| constraint[field].as_str().map(str::to_owned);
            let rule = text("matchAttribute")
                .map(Rule::Match)
                .or_else(|| text("distinctAttribute").map(Rule::Distinct));
            let rule = rule.ok_or_else(|| {
                format!("claim {id}, constraint #{index}: empty constraint (unsupported constraint type?)")
            })?;
            let names = items(constraint, "requests").iter().filter_map(Value::as_str);
            constraints.push(Constraint {
                rule,
                requests: names.map(str::to_owned).collect(),
            });
        }
        Ok(Claim {
            object,
            id,
            requests,
            constraints,
        })
    }
}

fn read(claim: &str, part: &Value, name: &str, parent: Option<&str>, stock: &Stock<'_>) -> Result<Request, String> {
    let fault = |what: String| format!("claim {claim}, request {name}{what}");
    let mut selectors = Vec::new();
    for (index, selector) in items(part, "selectors").iter().enumerate() {
        let Some(expression) = selector["cel"]["expression"].as_str() else {
            let what = format!(", selector #{index}: CEL expression empty (unsupported selector type?)");
            return Err(fault(what));
        };
        selectors.push(expression.to_owned());
    }
    let class_name = part["deviceClassName"].as_str().unwrap_or("");
    if class_name.is_empty() {
        return Err(fault(
            ": missing device class name (unsupported request type?)".to_owned(),
        ));
    }
    let Some(class) = (stock.class)(class_name) else {
        let what = format!(
            ": could not retrieve device class {class_name}: deviceclass.resource.k8s.io \"{class_name}\" not found"
        );
        return Err(fault(what));
    };
    let amount = match part["allocationMode"].as_str().unwrap_or("ExactCount") {
        "ExactCount" => Amount::Exactly(usize::try_from(part["count"].as_i64().unwrap_or(1)).unwrap_or(0)),
        "All" => Amount::All,
        other => return Err(fault(format!(": unsupported count mode {other}"))),
    };
    Ok(Request {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        class,
        amount,
        admin: part["adminAccess"] == true,
        selectors,
        tolerations: items(part, "tolerations").to_vec(),
    })
}
