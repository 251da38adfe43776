//! `servicecidrs`: the networks that cluster addresses are taken from.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::{cells, checks, references, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
        .validate(networks)
        .validate_update(|new, old| checks::immutable(new, old, "spec.cidrs", &Path::new("spec").child("cidrs")))
        .subresource(Subresource::status())
        .table(
            vec![Column::name(), Column::string("CIDRs", "The networks."), Column::age()],
            |object, now| {
                vec![
                    cells::name(object),
                    tree::strings(object, "spec.cidrs").join(",").into(),
                    cells::age(object, now),
                ]
            },
        )
}

fn networks(object: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("cidrs");
    let list = tree::strings(object, "spec.cidrs");
    let spec = || tree::at(object, "spec").cloned().unwrap_or_default();
    match list.as_slice() {
        [] => return vec![Error::required(&path, "at least one CIDR required")],
        [_] => {}
        [one, two] => {
            let families = [one, two].map(|text| references::parse_cidr(text).map(|(address, _)| address.is_ipv4()));
            if !matches!(families, [Some(one), Some(two)] if one != two) {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                return vec![Error::invalid(&path, spec(), detail)];
            }
        }
        _ => return vec![Error::invalid(&path, spec(), "may only hold up to 2 values")],
    }
    let errors = list.iter().enumerate();
    errors
        .flat_map(|(index, text)| references::canonical_cidr(text, &path.index(index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_network_a_family() {
        for (list, faults) in [
            (json!(["10.0.0.0/8"]), 0),
            (json!(["10.0.0.0/8", "fd00::/108"]), 0),
            (json!([]), 1),
            (json!(["10.0.0.0/8", "11.0.0.0/8"]), 1),
            (json!(["10.0.0.0/8", "fd00::/108", "x"]), 1),
            (json!(["10.0.0.1/8"]), 1),
        ] {
            assert_eq!(networks(&json!({"spec": {"cidrs": list}})).len(), faults, "{list}");
        }
    }
}
