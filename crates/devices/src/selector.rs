//! Selectors of devices: CEL expressions about the variable `device` (upstream
//! `staging/src/k8s.io/dynamic-resource-allocation/cel`).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cel::{Activation, Env, Opaque, Program, Semver, Struct, Text, Type, TypeProvider, Value};

use crate::attribute::Attribute;
use crate::slice::Device;

/// What an expression may cost on a device (`CELSelectorExpressionMaxCost`).
const COST_LIMIT: u64 = 1_000_000;
/// More expressions than any cluster has; then the cache begins anew.
const MOST_PROGRAMS: usize = 4096;
const DEVICE: &str = "kubernetes.DRADevice";
const QUANTITY: &str = "kubernetes.Quantity";

#[derive(Debug)]
struct Types;

impl TypeProvider for Types {
    fn has_type(&self, name: &str) -> bool {
        name == DEVICE
    }

    fn field_type(&self, name: &str, field: &str) -> Option<Type> {
        let by_domain = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
        match (name, field) {
            (DEVICE, "driver") => Some(Type::String),
            (DEVICE, "attributes") => Some(by_domain(Type::Dyn)),
            (DEVICE, "capacity") => Some(by_domain(Type::object(QUANTITY))),
            (DEVICE, "allowMultipleAllocations") => Some(Type::Bool),
            _ => None,
        }
    }
}

/// Compiled selectors, by their text. Shared by all searches.
pub struct Selectors {
    env: Env,
    /// A std mutex is right: it is held for a look-up, or while an expression is compiled.
    programs: Mutex<HashMap<String, Result<Program, String>>>,
}

impl fmt::Debug for Selectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selectors")
    }
}

impl Default for Selectors {
    fn default() -> Self {
        let env = Env::kubernetes()
            .types(Arc::new(Types))
            .variable("device", Type::object(DEVICE));
        Self {
            env: env.build(),
            programs: Mutex::default(),
        }
    }
}

impl Selectors {
    /// Whether an expression selects a device.
    ///
    /// # Errors
    /// It does not compile, fails on this device, or gives no bool.
    pub(crate) fn select(&self, expression: &str, driver: &str, device: &Device) -> Result<bool, String> {
        let program = self.program(expression)?;
        let value = device_value(driver, device, &domains_in(expression));
        let activation = Activation::new().with("device", value);
        let (value, _) = program
            .evaluate(&activation, COST_LIMIT)
            .map_err(|error| format!("CEL runtime error: {}", error.message()))?;
        value.as_bool().ok_or_else(|| "CEL runtime error: no bool".to_owned())
    }

    fn program(&self, expression: &str) -> Result<Program, String> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = programs.get(expression) {
            return known.clone();
        }
        if programs.len() >= MOST_PROGRAMS {
            programs.clear();
        }
        let compiled = self
            .env
            .compile(expression)
            .map_err(|issues| issues.to_string())
            .and_then(|program| match program.output_type() {
                Type::Bool | Type::Dyn => Ok(program),
                _ => Err("must evaluate to bool or the unknown type".to_owned()),
            });
        let compiled = compiled.map_err(|error| format!("CEL compile error: {error}"));
        programs.insert(expression.to_owned(), compiled.clone());
        compiled
    }
}

/// The domains that an expression looks into: a device without them has them empty, not missing.
fn domains_in(expression: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in expression.split('[').skip(1) {
        let part = part.trim_start();
        let Some(quote) = part.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
            continue;
        };
        found.extend(part[1..].split(quote).next());
    }
    found
}

type Domains = BTreeMap<String, Vec<(Text, Value)>>;

fn device_value(driver: &str, device: &Device, domains: &[&str]) -> Value {
    let empty = || -> Domains {
        domains
            .iter()
            .map(|domain| ((*domain).to_owned(), Vec::new()))
            .collect()
    };
    let put = |all: &mut Domains, name: &str, value: Value| {
        let (domain, id) = name.split_once('/').unwrap_or((driver, name));
        all.entry(domain.to_owned()).or_default().push((Text::from(id), value));
    };
    let (mut attributes, mut capacity) = (empty(), empty());
    for (name, attribute) in &device.attributes {
        put(&mut attributes, name, attribute_value(attribute));
    }
    for (name, quantity) in &device.capacity {
        put(
            &mut capacity,
            name,
            Value::Opaque(Arc::new(Opaque::Quantity(quantity.clone()))),
        );
    }
    let map = |all: Domains| {
        Value::map(
            all.into_iter()
                .map(|(domain, entries)| (Text::from(domain), Value::map(entries))),
        )
    };
    let fields = vec![
        (Text::from("driver"), Value::string(driver)),
        (Text::from("attributes"), map(attributes)),
        (Text::from("capacity"), map(capacity)),
        (Text::from("allowMultipleAllocations"), Value::Bool(device.shared)),
    ];
    Value::Struct(Arc::new(Struct {
        name: DEVICE.into(),
        fields,
    }))
}

fn attribute_value(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::Int(value) => Value::Int(*value),
        Attribute::Bool(value) => Value::Bool(*value),
        Attribute::Text(text) => Value::string(text.as_str()),
        Attribute::Version(text) => match Semver::parse(text) {
            Ok(version) => Value::Opaque(Arc::new(Opaque::Semver(version))),
            Err(_) => Value::string(text.as_str()),
        },
    }
}
