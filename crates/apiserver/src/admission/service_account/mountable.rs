//! An account may say that its pods use no Secrets but its own: annotation
//! `kubernetes.io/enforce-mountable-secrets`.

use std::collections::BTreeSet;

use api::{Value, meta};

use crate::kind::value_at;

const ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

/// Lists of containers that are looked at, with what messages call them.
pub(super) const OF_POD: [(&str, &str); 2] = [("initContainers", "init container"), ("containers", "container")];
pub(super) const OF_EPHEMERAL: [(&str, &str); 1] = [("ephemeralContainers", "ephemeral container")];

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    let list = value_at(value, path).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn names<'v>(account: &'v Value, field: &str) -> BTreeSet<&'v str> {
    let names = list(account, field)
        .iter()
        .filter_map(|secret| secret.get("name")?.as_str());
    names.collect()
}

/// Whether all that the pod uses is the account's.
pub(super) fn check(account: &Value, pod: &Value, containers: &[(&str, &str)]) -> Result<(), String> {
    // What Go's strconv.ParseBool takes for true.
    let enforced = matches!(
        meta::annotation(account, ANNOTATION),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True")
    );
    if !enforced {
        return Ok(());
    }
    let name = meta::name(account);
    let own = names(account, "secrets");
    let refuse = |what: String| {
        Err(format!(
            "{what} is not allowed because service account {name} does not reference that secret"
        ))
    };
    let whole = containers.len() == OF_POD.len();
    for volume in list(pod, "spec.volumes").iter().filter(|_| whole) {
        let secret = value_at(volume, "secret").map(|secret| secret.get("secretName").and_then(Value::as_str));
        if let Some(secret) = secret.map(Option::unwrap_or_default)
            && !own.contains(secret)
        {
            return refuse(format!("volume with secret.secretName=\"{secret}\""));
        }
    }
    for (field, what) in containers {
        for container in list(pod, &format!("spec.{field}")) {
            let text = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
            for var in list(container, "env") {
                let Some(secret) = value_at(var, "valueFrom.secretKeyRef")
                    .filter(|r| r.is_object())
                    .map(text)
                else {
                    continue;
                };
                if !own.contains(secret.as_str()) {
                    return refuse(format!(
                        "{what} {} with envVar {} referencing secret.secretName=\"{secret}\"",
                        text(container),
                        text(var)
                    ));
                }
            }
        }
    }
    let pull = names(account, "imagePullSecrets");
    for (index, secret) in list(pod, "spec.imagePullSecrets").iter().enumerate().filter(|_| whole) {
        let secret = secret.get("name").and_then(Value::as_str).unwrap_or("");
        if !pull.contains(secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name=\"{secret}\" is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_accounts_secrets() {
        let account = json!({"metadata": {"name": "a", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
            "secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}]});
        let env = |secret: &str| json!([{"name": "c", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret}}}]}]);
        let cases = [
            (
                json!({"containers": env("s"), "volumes": [{"secret": {"secretName": "s"}}], "imagePullSecrets": [{"name": "p"}]}),
                "",
            ),
            (
                json!({"volumes": [{"secret": {"secretName": "x"}}]}),
                "volume with secret.secretName=\"x\" is not allowed because service account a does not reference that secret",
            ),
            (
                json!({"initContainers": env("x")}),
                "init container c with envVar V referencing secret.secretName=\"x\" is not allowed because service account a does not reference that secret",
            ),
            (
                json!({"imagePullSecrets": [{"name": "x"}]}),
                "imagePullSecrets[0].name=\"x\" is not allowed because service account a does not reference that imagePullSecret",
            ),
        ];
        for (spec, want) in cases {
            let pod = json!({"spec": spec});
            assert_eq!(check(&account, &pod, &OF_POD).err().unwrap_or_default(), want);
            assert_eq!(check(&json!({}), &pod, &OF_POD), Ok(()));
        }
        let pod = json!({"spec": {"ephemeralContainers": env("x"), "volumes": [{"secret": {"secretName": "x"}}]}});
        assert!(
            check(&account, &pod, &OF_EPHEMERAL)
                .unwrap_err()
                .starts_with("ephemeral container c")
        );
    }
}
