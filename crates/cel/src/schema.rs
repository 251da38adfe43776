//! The types that objects of the API have in expressions, made from an OpenAPI schema at run time
//! (k8s.io/apiserver/pkg/cel/types.go, pkg/cel/common/schemas.go).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Tree;

use crate::cost::{SizeEstimate, SizeHints};
use crate::escape::{self, escape};
use crate::limits::*;
use crate::provider::TypeProvider;
use crate::types::Type;

/// The declaration of a type, with what its values' sizes can be.
#[derive(Debug, PartialEq)]
pub struct Decl {
    /// What it is.
    pub shape: Shape,
    /// Elements, entries, characters or bytes that a value has at most; 0 for what has no size.
    pub max_elements: u64,
    /// Bytes that a value takes at least when it is serialised.
    pub min_serialized_size: u64,
    /// Whether `null` is a value of it.
    pub nullable: bool,
}

/// What a declared type is.
#[derive(Debug, PartialEq)]
pub enum Shape {
    /// `type: boolean`
    Bool,
    /// `type: integer`
    Int,
    /// `type: number`
    Double,
    /// `type: string`
    String,
    /// `format: byte`, base64 in JSON.
    Bytes,
    /// `format: date`
    Date,
    /// `format: date-time`
    DateTime,
    /// `format: duration`
    Duration,
    /// `x-kubernetes-int-or-string`
    IntOrString,
    /// Anything; looked into without a schema.
    Any,
    /// `type: array`
    List {
        /// What the elements are.
        element: Arc<Decl>,
        /// How two lists are compared and added.
        kind: ListKind,
    },
    /// `additionalProperties`
    Map(Arc<Decl>),
    /// `properties`
    Object {
        /// The type's name.
        name: Arc<str>,
        /// Fields by property name (not escaped), only those that expressions can see.
        fields: BTreeMap<String, Arc<Decl>>,
    },
}

/// How a list is compared and added (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// By position.
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map, by these properties of its elements.
    Map(Vec<String>),
}

impl Decl {
    /// A type without sizes.
    pub fn simple(shape: Shape, min_serialized_size: u64) -> Self {
        Self {
            shape,
            max_elements: 0,
            min_serialized_size,
            nullable: false,
        }
    }

    /// Anything, looked into without a schema.
    pub fn any() -> Arc<Self> {
        Arc::new(Self::simple(Shape::Any, 1))
    }

    /// Makes the declaration of a structural schema, or none when expressions cannot see values of it: a schema
    /// without a type, unless it is int-or-string. `name` names the type of the root; `resource_root` says that the
    /// value is a whole resource, so that `apiVersion`, `kind` and `metadata.name` are there.
    pub fn from_schema(schema: &Tree, name: &str, resource_root: bool) -> Option<Arc<Self>> {
        from_schema(schema, name, resource_root, 0).map(Arc::new)
    }

    /// The type that expressions see.
    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Date | Shape::DateTime => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::IntOrString | Shape::Any => Type::Dyn,
            Shape::List { element, .. } => Type::list(element.ty()),
            Shape::Map(value) => Type::map(Type::String, value.ty()),
            Shape::Object { name, .. } => Type::Object(name.clone()),
        }
    }

    /// The declaration of a field, by its name in expressions.
    pub fn field(&self, identifier: &str) -> Option<&Arc<Decl>> {
        match &self.shape {
            Shape::Object { fields, .. } => fields.get(&escape::unescape(identifier)?),
            Shape::Map(value) => Some(value),
            _ => None,
        }
    }

    fn children(&self) -> Vec<&Arc<Decl>> {
        match &self.shape {
            Shape::List { element, .. } => vec![element],
            Shape::Map(value) => vec![value],
            Shape::Object { fields, .. } => fields.values().collect(),
            _ => Vec::new(),
        }
    }
}

/// Nesting of schemas that is followed; a deeper part is not seen by expressions.
const MAX_SCHEMA_DEPTH: usize = 256;

fn flag(schema: &Tree, name: &str) -> bool {
    schema.get(name).and_then(Tree::as_bool).unwrap_or(false)
}

fn size(schema: &Tree, name: &str) -> Option<u64> {
    let value = schema.get(name)?;
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|size| size.max(0.0) as u64))
}

fn type_of(schema: &Tree) -> &str {
    match schema.get("type") {
        Some(Tree::String(name)) => name,
        // OpenAPI v3 documents of built-in kinds may have a list with one entry.
        Some(Tree::Array(names)) => names.first().and_then(Tree::as_str).unwrap_or(""),
        _ => "",
    }
}

fn from_schema(schema: &Tree, name: &str, resource_root: bool, depth: usize) -> Option<Decl> {
    if depth > MAX_SCHEMA_DEPTH {
        return None;
    }
    let mut decl = if flag(schema, "x-kubernetes-int-or-string") {
        let max_elements = size(schema, "maxLength").map_or(MAX_REQUEST_SIZE_BYTES - 2, |size| size.saturating_mul(4));
        Decl {
            max_elements,
            ..Decl::simple(Shape::IntOrString, 1)
        }
    } else {
        match type_of(schema) {
            "array" => list_decl(schema, name, depth)?,
            "object" => object_decl(schema, name, resource_root, depth)?,
            "string" => string_decl(schema),
            "boolean" => Decl::simple(Shape::Bool, MIN_BOOL_SIZE),
            "number" => Decl::simple(Shape::Double, MIN_NUMBER_SIZE),
            "integer" => Decl::simple(Shape::Int, MIN_NUMBER_SIZE),
            _ => return None,
        }
    };
    decl.nullable = flag(schema, "nullable");
    Some(decl)
}

fn embedded(schema: &Tree) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
}

fn list_decl(schema: &Tree, name: &str, depth: usize) -> Option<Decl> {
    let items = schema.get("items")?;
    let element = Arc::new(from_schema(items, &format!("{name}.@idx"), embedded(items), depth + 1)?);
    let max_elements =
        size(schema, "maxItems").unwrap_or_else(|| (MAX_REQUEST_SIZE_BYTES - 2) / (element.min_serialized_size + 1));
    let kind = match schema.get("x-kubernetes-list-type").and_then(Tree::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Tree::as_array);
            ListKind::Map(
                keys.into_iter()
                    .flatten()
                    .filter_map(|key| key.as_str().map(str::to_owned))
                    .collect(),
            )
        }
        _ => ListKind::Atomic,
    };
    Some(Decl {
        shape: Shape::List { element, kind },
        max_elements,
        min_serialized_size: 2,
        nullable: false,
    })
}

fn object_decl(schema: &Tree, name: &str, resource_root: bool, depth: usize) -> Option<Decl> {
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let value = Arc::new(from_schema(
            values,
            &format!("{name}.@elem"),
            embedded(values),
            depth + 1,
        )?);
        let max_elements = size(schema, "maxProperties")
            .unwrap_or_else(|| (MAX_REQUEST_SIZE_BYTES - 2) / (value.min_serialized_size + 6));
        return Some(Decl {
            shape: Shape::Map(value),
            max_elements,
            min_serialized_size: 2,
            nullable: false,
        });
    }
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Tree::as_array)
        .into_iter()
        .flatten()
        .filter_map(Tree::as_str)
        .collect();
    let mut fields = BTreeMap::new();
    let mut min_serialized_size = 2;
    let with_meta;
    let properties = if resource_root {
        with_meta = with_type_and_object_meta(schema);
        Some(&with_meta)
    } else {
        schema.get("properties").and_then(Tree::as_object)
    };
    for (property, schema) in properties.into_iter().flatten() {
        let identifier = escape(property);
        let path = format!("{name}.{}", identifier.as_deref().unwrap_or(property));
        let Some(field) = from_schema(schema, &path, embedded(schema), depth + 1) else {
            continue;
        };
        if required.contains(&property.as_str()) && schema.get("default").is_none_or(Tree::is_null) {
            min_serialized_size += property.len() as u64 + field.min_serialized_size + 4;
        }
        if identifier.is_some() {
            fields.insert(property.clone(), Arc::new(field));
        }
    }
    let shape = Shape::Object {
        name: name.into(),
        fields,
    };
    Some(Decl {
        shape,
        max_elements: 0,
        min_serialized_size,
        nullable: false,
    })
}

/// The properties of a resource's schema with those that every resource has.
fn with_type_and_object_meta(schema: &Tree) -> serde_json::Map<String, Tree> {
    let mut properties = schema
        .get("properties")
        .and_then(Tree::as_object)
        .cloned()
        .unwrap_or_default();
    let typed = |value: Option<&Tree>, name: &str| value.is_some_and(|value| type_of(value) == name);
    let metadata = properties.get("metadata");
    let inside = metadata.and_then(|metadata| metadata.get("properties"));
    let complete = typed(properties.get("kind"), "string")
        && typed(properties.get("apiVersion"), "string")
        && typed(metadata, "object")
        && typed(inside.and_then(|inside| inside.get("name")), "string")
        && typed(inside.and_then(|inside| inside.get("generateName")), "string");
    if complete {
        return properties;
    }
    let text = serde_json::json!({"type": "string"});
    properties.insert("kind".into(), text.clone());
    properties.insert("apiVersion".into(), text.clone());
    let names = serde_json::json!({"type": "object", "properties": {"name": text, "generateName": text}});
    properties.insert("metadata".into(), names);
    properties
}

fn string_decl(schema: &Tree) -> Decl {
    let max_length = size(schema, "maxLength");
    let (shape, max_elements, min) = match schema.get("format").and_then(Tree::as_str) {
        Some("byte") => (
            Shape::Bytes,
            max_length.unwrap_or(MAX_REQUEST_SIZE_BYTES - 2),
            MIN_STRING_SIZE,
        ),
        Some("duration") => (Shape::Duration, MAX_DURATION_SIZE_JSON, MIN_DURATION_SIZE_JSON),
        Some("date") => (Shape::Date, JSON_DATE_SIZE, JSON_DATE_SIZE),
        Some("date-time") => (Shape::DateTime, MAX_DATETIME_SIZE_JSON, MIN_DATETIME_SIZE_JSON),
        _ => {
            let values = schema
                .get("enum")
                .and_then(Tree::as_array)
                .filter(|values| !values.is_empty());
            let max = match (max_length, values) {
                (Some(length), _) => length.saturating_mul(4),
                (None, Some(values)) => values
                    .iter()
                    .filter_map(Tree::as_str)
                    .map(|text| text.len() as u64)
                    .max()
                    .unwrap_or(0),
                (None, None) => MAX_REQUEST_SIZE_BYTES - 2,
            };
            (Shape::String, max, MIN_STRING_SIZE)
        }
    };
    Decl {
        shape,
        max_elements,
        min_serialized_size: min,
        nullable: false,
    }
}

/// A type provider of the object types in some declarations.
#[derive(Debug, Default)]
pub struct DeclTypes {
    objects: HashMap<Arc<str>, Arc<Decl>>,
    keywords: bool,
}

impl DeclTypes {
    /// The object types of these declarations, and of all that is inside of them.
    pub fn new<'d>(roots: impl IntoIterator<Item = &'d Arc<Decl>>) -> Self {
        let mut types = Self::default();
        let mut rest: Vec<&Arc<Decl>> = roots.into_iter().collect();
        while let Some(decl) = rest.pop() {
            if let Shape::Object { name, .. } = &decl.shape {
                types.objects.insert(name.clone(), decl.clone());
            }
            rest.extend(decl.children());
        }
        types
    }

    /// Also finds a field whose name is a reserved word without its escape (`self.namespace`).
    pub fn with_keywords_as_fields(mut self) -> Self {
        self.keywords = true;
        self
    }
}

impl TypeProvider for DeclTypes {
    fn has_type(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    fn field_type(&self, name: &str, field: &str) -> Option<Type> {
        let decl = self.objects.get(name)?;
        let Shape::Object { fields, .. } = &decl.shape else {
            return None;
        };
        let property = escape::unescape(field)?;
        let declared = escape(&property)? == field || (self.keywords && escape::RESERVED.contains(&field));
        fields.get(&property).filter(|_| declared).map(|decl| decl.ty())
    }
}

/// The sizes of variables that are declared by schemas, for the estimate of costs.
#[derive(Debug, Default, Clone)]
pub struct DeclSizes(Vec<(String, Arc<Decl>)>);

impl DeclSizes {
    /// Sizes of no variable yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable.
    pub fn with(mut self, variable: &str, decl: Arc<Decl>) -> Self {
        self.0.push((variable.to_owned(), decl));
        self
    }
}

impl SizeHints for DeclSizes {
    fn size(&self, path: &[String], _: &Type) -> Option<SizeEstimate> {
        let (variable, path) = path.split_first()?;
        // A path that starts at no variable (a field of what a function gave) is looked up from the first one's root,
        // as the estimator of CRDs does, which leaves out the first step of any path.
        let found = self.0.iter().find(|(name, _)| name == variable).or(self.0.first());
        let mut decl = &found?.1;
        let key = Decl::simple(Shape::String, MIN_STRING_SIZE);
        for (index, step) in path.iter().enumerate() {
            decl = match (step.as_str(), &decl.shape) {
                ("@items" | "@values", Shape::List { element, .. }) => element,
                ("@items" | "@values", Shape::Map(value)) => value,
                ("@keys", Shape::Map(_)) if index + 1 == path.len() => {
                    return Some(SizeEstimate {
                        min: 0,
                        max: key.max_elements,
                    });
                }
                (_, Shape::Object { .. }) => decl.field(step)?,
                _ => return None,
            };
        }
        Some(SizeEstimate {
            min: 0,
            max: decl.max_elements,
        })
    }
}
