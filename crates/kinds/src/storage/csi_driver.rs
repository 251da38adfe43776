//! `csidrivers`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::Column;

use super::GROUP;
use crate::{cells, checks, tree};

/// What moves the generation.
const MUTABLE: &[&str] = &[
    "tokenRequests",
    "requiresRepublish",
    "seLinuxMount",
    "nodeAllocatableUpdatePeriodSeconds",
    "serviceAccountTokenInSecrets",
];
const MODES: &[&str] = &["Persistent", "Ephemeral"];
const FS_GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

pub(crate) fn kind() -> Kind {
    let boolean = |name, description| Column {
        r#type: "boolean",
        ..Column::string(name, description)
    };
    Kind::cluster(GROUP, "v1", "CSIDriver", "csidrivers")
        .returns_deleted_object()
        .forbid_unconditional_update()
        // As upstream: it starts without one.
        .prepare_create(|_, driver| meta::set_generation(driver, 0))
        .generation_when(|new, old| {
            MUTABLE.iter().any(|field| {
                let at = format!("spec.{field}");
                !tree::same(tree::at(new, &at), tree::at(old, &at))
            })
        })
        .default(default)
        .validate(driver)
        .validate_update(|new, old| {
            let mut errors = driver(new);
            let path = Path::new("spec");
            for (field, shown) in [
                ("attachRequired", "attachedRequired"),
                ("volumeLifecycleModes", "volumeLifecycleModes"),
            ] {
                let at = format!("spec.{field}");
                errors.extend(checks::immutable(new, old, &at, &path.child(shown)));
            }
            errors
        })
        .table(
            vec![
                Column::name(),
                boolean("AttachRequired", "Whether volumes are attached first."),
                boolean("PodInfoOnMount", "Whether the driver is told about the pod."),
                boolean("StorageCapacity", "Whether the driver reports capacity."),
                Column::string("TokenRequests", "Audiences of tokens it gets."),
                boolean("RequiresRepublish", "Whether it is called again and again."),
                Column::string("Modes", "Life cycles that it supports."),
                Column::age(),
            ],
            |driver, now| {
                let flag = |field: &str, absent| {
                    Value::from(tree::flag_opt(driver, &format!("spec.{field}")).unwrap_or(absent))
                };
                let requests = tree::list(driver, "spec.tokenRequests").iter();
                let audiences: Vec<&str> = requests.map(|request| tree::text(request, "audience")).collect();
                let has_requests = tree::at(driver, "spec.tokenRequests").is_some();
                let audiences = if has_requests {
                    audiences.join(",")
                } else {
                    "<unset>".to_owned()
                };
                vec![
                    cells::name(driver),
                    flag("attachRequired", true),
                    flag("podInfoOnMount", false),
                    flag("storageCapacity", false),
                    audiences.into(),
                    flag("requiresRepublish", false),
                    cells::or(&tree::strings(driver, "spec.volumeLifecycleModes").join(","), "<none>"),
                    cells::age(driver, now),
                ]
            },
        )
}

fn default(driver: &mut Value) {
    let spec = tree::child(driver, "spec");
    tree::fill(spec, "attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        tree::fill(spec, field, false);
    }
    tree::fill_absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if tree::list(spec, "volumeLifecycleModes").is_empty() {
        tree::set(spec, "volumeLifecycleModes", vec!["Persistent"]);
    }
}

fn driver(driver: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if tree::flag_opt(driver, &format!("spec.{field}")).is_none() {
            errors.push(Error::required(&path.child(shown), ""));
        }
    }
    errors.extend(checks::optional_one_of(
        tree::text_opt(driver, "spec.fsGroupPolicy"),
        FS_GROUP_POLICIES,
        &path.child("fsGroupPolicy"),
    ));
    errors.extend(token_requests(driver, &path.child("tokenRequests")));
    for mode in tree::strings(driver, "spec.volumeLifecycleModes") {
        if !MODES.contains(&mode) {
            errors.push(Error::not_supported(&path.child("volumeLifecycleModes"), mode, MODES));
        }
    }
    if tree::flag_opt(driver, "spec.seLinuxMount").is_none() {
        errors.push(Error::required(&path.child("seLinuxMount"), ""));
    }
    if let Some(seconds) = tree::int(driver, "spec.nodeAllocatableUpdatePeriodSeconds")
        && seconds < 10
    {
        let path = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(Error::invalid(
            &path,
            seconds,
            "must be greater than or equal to 10 seconds",
        ));
    }
    errors
}

fn token_requests(driver: &Value, path: &Path) -> Vec<Error> {
    let requests = tree::list(driver, "spec.tokenRequests");
    let mut errors = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let (path, audience) = (path.index(index), tree::text(request, "audience"));
        if requests[..index]
            .iter()
            .any(|other| tree::text(other, "audience") == audience)
        {
            errors.push(Error::duplicate(&path.child("audience"), audience));
            continue;
        }
        let Some(seconds) = tree::int(request, "expirationSeconds") else {
            continue;
        };
        let path = path.child("expirationSeconds");
        if seconds < MIN_TOKEN_SECONDS {
            let detail = "may not specify a duration less than 10 minutes";
            errors.push(Error::invalid(&path, seconds, detail));
        }
        if seconds > MAX_TOKEN_SECONDS {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.push(Error::invalid(&path, seconds, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_make_a_driver_whole() {
        let mut object = json!({});
        default(&mut object);
        assert_eq!(driver(&object), []);
        object["spec"]["fsGroupPolicy"] = "Odd".into();
        object["spec"]["volumeLifecycleModes"] = json!(["Odd"]);
        object["spec"]["tokenRequests"] = json!([{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]);
        let fields: Vec<String> = driver(&object).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.fsGroupPolicy",
                "spec.tokenRequests[0].expirationSeconds",
                "spec.tokenRequests[1].audience",
                "spec.volumeLifecycleModes"
            ]
        );
    }
}
