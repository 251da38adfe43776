//! Defaults that a definition declares have to be valid themselves (`schema/defaulting/validation.go`).

use api::field::{Error, Path, aggregate};
use serde_json::Value;

use super::coerce::{Malformed, coerce_object};
use super::defaulting::{Step, surround};
use super::{Node, Validator, embedded_errors, list_types, prune};

/// Errors of all defaults in a resource's schema.
pub fn check_defaults(root: &Node, path: &Path) -> Vec<Error> {
    let root = root.as_resource();
    let mut check = Check {
        resource: &root,
        inside: Vec::new(),
        in_metadata: false,
        errors: Vec::new(),
    };
    check.walk(&root, path);
    check.errors
}

struct Check<'n> {
    /// The resource that the place is in.
    resource: &'n Node,
    /// The place within it.
    inside: Vec<Step>,
    /// Whether the place is in the resource's `metadata`, `kind` or `apiVersion`.
    in_metadata: bool,
    errors: Vec<Error>,
}

impl<'n> Check<'n> {
    fn walk(&mut self, node: &'n Node, path: &Path) {
        let outer = (self.resource, self.in_metadata);
        let outer_path = std::mem::take(&mut self.inside);
        if node.embedded {
            self.resource = node;
            self.in_metadata = false;
        } else {
            self.inside = outer_path.clone();
        }
        if let Some(default) = &node.default {
            self.one(node, default, &path.child("default"));
        }
        if let Some(items) = &node.items {
            self.inside.push(Step::Item);
            self.walk(items, &path.child("items"));
            self.inside.pop();
        }
        for (name, property) in &node.properties {
            let before = self.in_metadata;
            self.in_metadata |= node.embedded && super::is_meta(name);
            self.inside.push(Step::Member(name.clone()));
            self.walk(property, &path.child("properties").key(name));
            self.inside.pop();
            self.in_metadata = before;
        }
        (self.resource, self.in_metadata) = outer;
        self.inside = outer_path;
    }

    fn one(&mut self, node: &Node, default: &Value, path: &Path) {
        if self.in_metadata {
            let mut object = surround(&self.inside, default.clone());
            object["kind"] = "Validation".into();
            object["apiVersion"] = "validation/v1".into();
            let bad =
                |why: String| Error::invalid(path, default.clone(), format!("must result in valid metadata: {why}"));
            if let Err(error) = coerce_object(self.resource, &mut object, &Path::root(), Malformed::Refuse) {
                return self.errors.push(bad(error.to_string()));
            }
            let errors = embedded_errors(&whole(self.resource), &serde_json::json!({"it": object}), &Path::root());
            if !errors.is_empty() {
                return self.errors.push(bad(aggregate(&errors)));
            }
        } else {
            let mut pruned = default.clone();
            if node.embedded {
                prune(node, &mut pruned);
            } else {
                super::prune_nested(node, &mut pruned);
            }
            if pruned != *default {
                self.errors
                    .push(Error::invalid(path, default.clone(), "must not have unknown fields"));
            }
            let mut object = default.clone();
            if let Err(error) = coerce_object(node, &mut object, path, Malformed::Refuse) {
                return self.errors.push(error);
            }
            let errors = if node.embedded {
                embedded_errors(&whole(node), &serde_json::json!({"it": object}), path)
            } else {
                embedded_errors(node, &object, path)
            };
            if !errors.is_empty() {
                return self.errors.extend(errors);
            }
        }
        let errors = Validator::new(node).validate(path, default);
        if !errors.is_empty() {
            return self.errors.extend(errors);
        }
        self.errors.extend(list_types::list_errors(node, default, path));
    }
}

/// A schema that has the resource as its one member.
fn whole(resource: &Node) -> Node {
    let mut node = Node::default();
    node.properties.insert("it".to_owned(), resource.clone());
    node
}
