//! What pods ask of nodes and nodes have left: exact amounts by resource.

use std::collections::BTreeMap;

use api::Quantity;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

fn parse(list: Option<&BTreeMap<String, Wire>>) -> Amounts {
    let each = list.into_iter().flatten();
    each.map(|(name, amount)| (name.clone(), amount.0.parse().unwrap_or_default()))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or_else(|| amount.clone(), |known| known.add(amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|known| known.sub(amount).signum() < 0) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

fn of_container(container: &Container) -> Amounts {
    parse(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

/// What a pod asks for: its containers together with those that run beside them, or at some time of its start more
/// (upstream `resource.PodRequests`). Every pod takes one of `pods`.
pub fn requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let (mut beside, mut start) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        let mut then = beside.clone();
        add(&mut then, &own);
        raise(&mut start, &then);
        if container.restart_policy.as_deref() == Some("Always") {
            beside = then;
        }
    }
    let mut sum = beside;
    for container in &spec.containers {
        add(&mut sum, &of_container(container));
    }
    raise(&mut sum, &start);
    if let Some(whole) = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
    {
        sum.extend(parse(Some(whole)));
    }
    add(&mut sum, &parse(spec.overhead.as_ref()));
    sum.insert(
        "pods".to_owned(),
        Quantity::from_value(1, api::quantity::Format::DecimalSi),
    );
    sum
}

/// What the node has left beside `pods`, its own.
pub fn free<'p>(node: &Node, pods: impl Iterator<Item = &'p Pod>) -> Amounts {
    let mut left = parse(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
    for pod in pods {
        for (name, amount) in requests(pod) {
            let known = left.entry(name).or_default();
            *known = known.sub(&amount);
        }
    }
    left
}

/// By how much a pod's request exceeds what is left; nothing where it does not.
pub fn short(requests: &Amounts, left: &Amounts) -> Amounts {
    let mut short = Amounts::new();
    for (name, amount) in requests.iter().filter(|(_, amount)| amount.signum() > 0) {
        let missing = left.get(name).map_or_else(|| amount.clone(), |left| amount.sub(left));
        if missing.signum() > 0 {
            short.insert(name.clone(), missing);
        }
    }
    short
}

/// `200m CPU`, `1Gi memory`, `1 pod`.
pub fn told(name: &str, amount: &Quantity) -> String {
    match name {
        "cpu" => format!("{amount} CPU"),
        "memory" => format!("{} memory", bytes(amount)),
        "pods" => "1 pod".to_owned(),
        other => format!("{amount} {other}"),
    }
}

/// In the largest unit that is exact.
fn bytes(amount: &Quantity) -> String {
    let value = amount.value();
    let units = ["", "Ki", "Mi", "Gi", "Ti"];
    let fits = |power: &usize| value % (1_i64 << (10 * power)) == 0;
    let power = (1..units.len()).take_while(fits).last().unwrap_or(0);
    format!("{}{}", value >> (10 * power), units[power])
}
