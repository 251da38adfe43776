//! Field ownership between an object and its Scale (`managedfields/scalehandler.go`): whoever owns the
//! object's count owns the Scale's, and the reverse.

use api::Value;
use serde_json::{Map, json};

const SCALE_VERSION: &str = "autoscaling/v1";

/// Where the count is in objects of one version.
pub(super) struct Owners<'a> {
    pub api_version: String,
    /// The dotted path of the count.
    pub path: &'a str,
}

fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// What makes two entries the same manager's.
fn manager(entry: &Value) -> [&str; 3] {
    ["manager", "operation", "subresource"].map(|field| entry[field].as_str().unwrap_or(""))
}

impl Owners<'_> {
    fn steps(&self) -> Vec<String> {
        self.path.split('.').map(|step| format!("f:{step}")).collect()
    }

    fn has_count(&self, entry: &Value) -> bool {
        let mut place = &entry["fieldsV1"];
        for step in self.steps() {
            match place.get(&step) {
                Some(next) => place = next,
                None => return false,
            }
        }
        entry["apiVersion"] == self.api_version
    }

    /// The managed fields of the object's Scale.
    pub fn of_scale(&self, object: &Value) -> Value {
        let owners = entries(object).filter(|entry| self.has_count(entry)).map(|entry| {
            let mut entry = entry.clone();
            entry["apiVersion"] = SCALE_VERSION.into();
            entry["fieldsV1"] = json!({"f:spec": {"f:replicas": {}}});
            entry
        });
        owners.collect()
    }

    /// Writes the owners of a written Scale back into the object.
    pub fn back(&self, object: &mut Value, scale: &Value) {
        let mut of_scale: Vec<&Value> = entries(scale)
            .filter(|entry| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some())
            .collect();
        let mut kept = Vec::new();
        for entry in entries(object) {
            let mut entry = entry.clone();
            if self.has_count(&entry) {
                let known = of_scale.iter().position(|other| manager(other) == manager(&entry));
                match known {
                    Some(at) => drop(of_scale.remove(at)),
                    None => take(&mut entry["fieldsV1"], &self.steps()),
                }
            }
            if entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()) {
                kept.push(entry);
            }
        }
        for entry in of_scale {
            let mut entry = entry.clone();
            entry["apiVersion"] = self.api_version.clone().into();
            let leaf = Value::Object(Map::new());
            let wrap = |inner: Value, step: &String| json!({ step: inner });
            entry["fieldsV1"] = self.steps().iter().rev().fold(leaf, wrap);
            kept.push(entry);
        }
        match api::meta::metadata_mut(object) {
            Some(metadata) if kept.is_empty() => drop(metadata.remove("managedFields")),
            Some(metadata) => drop(metadata.insert("managedFields".to_owned(), kept.into())),
            None => {}
        }
    }
}

/// Removes a path, and what becomes empty above it.
fn take(place: &mut Value, steps: &[String]) {
    let (Some((first, rest)), Some(map)) = (steps.split_first(), place.as_object_mut()) else {
        return;
    };
    let Some(next) = map.get_mut(first) else { return };
    take(next, rest);
    let empty = next.as_object().is_none_or(|map| map.keys().all(|key| key == "."));
    if rest.is_empty() || empty {
        map.remove(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_go_there_and_back() {
        let owners = Owners {
            api_version: "apps/v1".to_owned(),
            path: "spec.replicas",
        };
        let mut object = json!({"metadata": {"managedFields": [
            {"manager": "a", "operation": "Apply", "apiVersion": "apps/v1",
                "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}}},
            {"manager": "b", "operation": "Update", "apiVersion": "apps/v1",
                "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ]}});
        let scale = owners.of_scale(&object);
        assert_eq!(scale[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(scale[1]["apiVersion"], "autoscaling/v1");
        let written = json!({"metadata": {"managedFields": [
            {"manager": "c", "operation": "Update", "subresource": "scale", "apiVersion": "autoscaling/v1",
                "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ]}});
        owners.back(&mut object, &written);
        let fields = &object["metadata"]["managedFields"];
        assert_eq!(fields[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
        assert_eq!(fields[1]["manager"], "c");
        assert_eq!(fields[1]["apiVersion"], "apps/v1");
        assert_eq!(fields.as_array().unwrap().len(), 2);
    }
}
