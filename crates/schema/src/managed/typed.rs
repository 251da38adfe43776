//! Whether an applied object is of its type, in the words of upstream's structured-merge-diff (`typed/validate.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::field_set::element_of;
use crate::{Shape, TypeRef};

/// What keeps `object` from being of type `ty`; null is of every type.
pub fn faults(ty: TypeRef<'_>, object: &Value) -> Vec<String> {
    let mut walk = Walk {
        path: String::new(),
        faults: Vec::new(),
    };
    walk.value(ty, object);
    walk.faults
}

struct Walk {
    path: String,
    faults: Vec<String>,
}

/// A value as Go prints what the library holds it in.
fn held(value: &Value) -> String {
    let inner = match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    format!("&value.valueUnstructured{{Value:{inner}}}")
}

impl Walk {
    fn fault(&mut self, what: &str) {
        let path = &self.path;
        self.faults.push(if path.is_empty() {
            what.to_owned()
        } else {
            format!("{path}: {what}")
        });
    }

    fn below(&mut self, step: &str, ty: TypeRef<'_>, value: &Value) {
        let length = self.path.len();
        self.path.push_str(step);
        self.value(ty, value);
        self.path.truncate(length);
    }

    fn value(&mut self, ty: TypeRef<'_>, value: &Value) {
        if value.is_null() {
            return;
        }
        match ty.kind() {
            Shape::Struct(structure) => {
                let Some(members) = value.as_object() else {
                    return self.fault(&format!("expected map, got {}", held(value)));
                };
                for (name, member) in members {
                    match structure.field(name) {
                        Some(field) => self.below(&format!(".{name}"), field.ty(), member),
                        None if structure.preserves_unknown() => {}
                        None => {
                            let length = self.path.len();
                            self.path.push_str(&format!(".{name}"));
                            self.fault("field not declared in schema");
                            self.path.truncate(length);
                        }
                    }
                }
            }
            Shape::Map(map) => match value.as_object() {
                Some(members) => {
                    for (name, member) in members {
                        self.below(&format!(".{name}"), map.value(), member);
                    }
                }
                None => self.fault(&format!("expected map, got {}", held(value))),
            },
            Shape::List(list) => {
                let Some(items) = value.as_array() else {
                    return self.fault(&format!("expected list, got {}", held(value)));
                };
                let mut seen = BTreeSet::new();
                for (index, item) in items.iter().enumerate() {
                    let step = match element_of(list.kind, list.elem(), item) {
                        Some(element) => {
                            if !seen.insert(element.clone()) {
                                self.fault(&format!("duplicate entries for key {element}"));
                            }
                            element.to_string()
                        }
                        None => format!("[{index}]"),
                    };
                    self.below(&step, list.elem(), item);
                }
            }
            Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration if !value.is_string() => {
                self.fault(&format!("expected string, got {}", held(value)));
            }
            Shape::Bool if !value.is_boolean() => self.fault(&format!("expected boolean, got {}", held(value))),
            Shape::Integer(_) | Shape::Number if !value.is_number() => {
                let what = match value {
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    Value::Array(_) => "[]interface {}",
                    _ => "map[string]interface {}",
                };
                self.fault(&format!("expected numeric (int or float), got {what}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_fault_has_its_path() {
        let ty = crate::builtin().kind("apps", "v1", "Deployment").unwrap();
        let object = json!({"metadata": {"labels": {"a": 5}}, "odd": 1, "spec": {"replicas": "1", "paused": null, "template": {"spec": {
            "containers": [{"name": "c", "args": "x"}, {"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 80}]}],
            "tolerations": [{"odd": 1}],
        }}}});
        assert_eq!(
            faults(ty, &object),
            [
                ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:5}",
                ".odd: field not declared in schema",
                ".spec.replicas: expected numeric (int or float), got string",
                ".spec.template.spec.containers[name=\"c\"].args: expected list, got &value.valueUnstructured{Value:\"x\"}",
                ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]",
                ".spec.template.spec.containers[name=\"c\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]",
                ".spec.template.spec.tolerations[0].odd: field not declared in schema",
            ]
        );
        assert!(faults(ty, &json!({"spec": {"template": null}})).is_empty());
    }
}
