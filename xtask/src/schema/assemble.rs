//! From parsed Go packages to the schema model and its documentation.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use schema::docs::Docs;
use schema::model::{
    Builder, FieldFlags, FieldSpec, ListKind, MapKind, Schema, StructId, StructSpec, TypeDef, TypeId, Width,
};

use super::go::{Body, Constant, Imports, Member, Package, Sources, TypeDecl};
use super::prose::{description, enum_description, has_marker, markers};

const APIMACHINERY: &str = "k8s.io/apimachinery/";
const APIEXTENSIONS: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1";
const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";

/// Types that the coder knows by heart.
const SPECIAL: &[(&str, &str, TypeDef)] = &[
    (META, "Time", TypeDef::Time),
    (META, "MicroTime", TypeDef::MicroTime),
    (META, "Duration", TypeDef::Duration),
    (META, "FieldsV1", TypeDef::FieldsV1),
    ("k8s.io/apimachinery/pkg/api/resource", "Quantity", TypeDef::Quantity),
    (
        "k8s.io/apimachinery/pkg/util/intstr",
        "IntOrString",
        TypeDef::IntOrString,
    ),
    ("k8s.io/apimachinery/pkg/runtime", "RawExtension", TypeDef::RawExtension),
    ("k8s.io/apimachinery/pkg/runtime", "Object", TypeDef::Any),
    // Any JSON, in protobuf a message of its bytes, as a raw extension is.
    (APIEXTENSIONS, "JSON", TypeDef::RawExtension),
    (APIEXTENSIONS, "JSONSchemaPropsOrArray", TypeDef::Any),
    (APIEXTENSIONS, "JSONSchemaPropsOrBool", TypeDef::Any),
    (APIEXTENSIONS, "JSONSchemaPropsOrStringArray", TypeDef::Any),
];

/// Structs that are the coder's own business or never part of an API object.
const LEFT_OUT: &[(&str, &str)] = &[
    (META, "Timestamp"),
    ("k8s.io/apimachinery/pkg/api/resource", "QuantityValue"),
    ("k8s.io/apimachinery/pkg/runtime", "Unknown"),
    ("k8s.io/apimachinery/pkg/runtime", "TypeMeta"),
];

/// What `metav1.AddToGroupVersion` registers in every group version.
const EVERY_VERSION: &[&str] = &[
    "WatchEvent",
    "ListOptions",
    "GetOptions",
    "DeleteOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
];

/// What it registers once, as core v1.
const UNVERSIONED: &[&str] = &["Status", "APIVersions", "APIGroupList", "APIGroup", "APIResourceList"];

/// Kinds of meta.k8s.io (`AddMetaToScheme`).
const META_KINDS: &[&str] = &[
    "Table",
    "TableOptions",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
];

/// Builds the model and its documentation.
pub fn assemble(sources: &Sources) -> anyhow::Result<(Schema, Docs)> {
    let mut assembler = Assembler {
        sources,
        builder: Builder::new(),
        structs: HashMap::new(),
        enums: HashMap::new(),
        texts: HashMap::new(),
        docs: Docs::default(),
    };
    assembler.text("");
    assembler.declare();
    assembler.define()?;
    assembler.register()?;
    assembler.others()?;
    Ok((assembler.builder.finish(), assembler.docs))
}

struct Assembler<'a> {
    sources: &'a Sources,
    builder: Builder,
    structs: HashMap<(&'a str, &'a str), StructId>,
    enums: HashMap<(&'a str, &'a str), TypeId>,
    texts: HashMap<String, u32>,
    docs: Docs,
}

/// A type expression resolved.
struct Resolved {
    id: TypeId,
    pointer: bool,
}

impl<'a> Assembler<'a> {
    fn declare(&mut self) {
        for (path, package) in &self.sources.packages {
            for (name, decl) in &package.types {
                let special = SPECIAL.iter().any(|(p, n, _)| p == path && n == name);
                let left_out = LEFT_OUT.contains(&(path.as_str(), name.as_str()));
                let exported = name.starts_with(|c: char| c.is_ascii_uppercase());
                if exported && !special && !left_out && self.members(path, decl).is_some_and(has_json) {
                    let id = self.builder.declare(&open_api_name(path, name));
                    self.builder.ty(TypeDef::Struct(id, MapKind::Unset), &short(path, name));
                    self.structs.insert((path, name), id);
                }
            }
        }
    }

    /// Members of a struct, seen through `type A pkg.B`.
    fn members(&self, path: &'a str, decl: &'a TypeDecl) -> Option<(&'a [Member], &'a str, &'a TypeDecl)> {
        match &decl.body {
            Body::Struct(members) => Some((members, path, decl)),
            Body::Named(target) => {
                let (path, name) = qualify(path, &decl.imports, target)?;
                let (path, package) = self.sources.packages.get_key_value(path)?;
                self.members(path, package.types.get(name)?)
            }
            Body::Alias(_) => None,
        }
    }

    fn define(&mut self) -> anyhow::Result<()> {
        self.docs.structs = vec![0; self.structs.len()];
        for (path, package) in &self.sources.packages {
            for (name, decl) in &package.types {
                let Some(&id) = self.structs.get(&(path.as_str(), name.as_str())) else {
                    continue;
                };
                let (members, home, home_decl) = self.members(path, decl).context("declared structs have members")?;
                let mut spec = StructSpec {
                    kind: struct_kind(&decl.doc)?,
                    ..StructSpec::default()
                };
                let mut texts = Vec::new();
                for member in members {
                    let field = self
                        .field(home, &home_decl.imports, member)
                        .with_context(|| format!("{path}.{name}.{}", member.name))?;
                    if let Some((field, text)) = field {
                        spec.fields.push(field);
                        texts.push(text);
                    }
                }
                if let Some(message) = package.messages.get(name) {
                    let numbered = spec.fields.iter().filter(|f| f.number > 0).map(|f| f.number);
                    let mut numbers: Vec<u32> = numbered.collect();
                    numbers.sort_unstable();
                    ensure!(
                        numbers.iter().eq(message.keys()),
                        "{path}.{name}: tags say {numbers:?}, generated.proto says {message:?}"
                    );
                }
                let doc = self.text(&description(&decl.doc));
                self.docs.structs[id.index()] = doc;
                for (index, text) in self.builder.define(id, spec).into_iter().zip(texts) {
                    let index = index as usize;
                    if self.docs.fields.len() <= index {
                        self.docs.fields.resize(index + 1, 0);
                    }
                    self.docs.fields[index] = text;
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        path: &'a str,
        imports: &'a Rc<Imports>,
        member: &'a Member,
    ) -> anyhow::Result<Option<(FieldSpec, u32)>> {
        let Some(json) = member.tags.get("json") else {
            return Ok(None);
        };
        if json == "-" {
            return Ok(None);
        }
        let mut options = json.split(',');
        let name = options.next().unwrap_or_default();
        let options: Vec<&str> = options.collect();
        let resolved = self.resolve(path, imports, &member.ty, &member.doc)?;
        let omitempty = options.contains(&"omitempty");
        let embedded = member.name.is_empty() && name.is_empty();
        ensure!(embedded || !name.is_empty(), "no JSON name");
        let optional = match (has_marker(&member.doc, "required"), has_marker(&member.doc, "optional")) {
            (true, _) => false,
            (_, true) => true,
            _ => omitempty,
        };
        let strategy = member.tags.get("patchStrategy").map(String::as_str).unwrap_or_default();
        let flags = [
            (resolved.pointer, FieldFlags::POINTER),
            (omitempty, FieldFlags::OMITEMPTY),
            (options.contains(&"omitzero"), FieldFlags::OMITZERO),
            (!optional && !embedded, FieldFlags::REQUIRED),
            (embedded, FieldFlags::INLINE),
            (strategy.split(',').any(|s| s == "merge"), FieldFlags::PATCH_MERGE),
            (
                strategy.split(',').any(|s| s == "retainKeys"),
                FieldFlags::PATCH_RETAIN_KEYS,
            ),
            (strategy.split(',').any(|s| s == "replace"), FieldFlags::PATCH_REPLACE),
        ]
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(FieldFlags::default(), |all, (_, flag)| all.with(flag));
        let number = match member.tags.get("protobuf") {
            Some(tag) => tag
                .split(',')
                .nth(1)
                .and_then(|n| n.parse().ok())
                .context("no protobuf number")?,
            None => 0,
        };
        let spec = FieldSpec {
            name: name.to_owned(),
            number,
            ty: resolved.id,
            flags,
            default: self.default(path, member)?,
            merge_key: member.tags.get("patchMergeKey").cloned().unwrap_or_default(),
        };
        Ok(Some((spec, self.text(&description(&member.doc)))))
    }

    fn default(&self, path: &str, member: &Member) -> anyhow::Result<Option<serde_json::Value>> {
        let Some(text) = markers(&member.doc, "default").next() else {
            return Ok(None);
        };
        if let Some(name) = text.strip_prefix("ref(").and_then(|t| t.strip_suffix(')')) {
            let constants = &self.sources.packages[path].constants;
            let found = constants
                .iter()
                .find(|c| c.name == name)
                .with_context(|| format!("no constant {name}"))?;
            return Ok(Some(found.value.clone().into()));
        }
        serde_json::from_str(text)
            .map(Some)
            .with_context(|| format!("default {text} is no JSON"))
    }

    fn resolve(&mut self, path: &'a str, imports: &'a Imports, ty: &str, doc: &[String]) -> anyhow::Result<Resolved> {
        if let Some(inner) = ty.strip_prefix('*') {
            let inner = self.resolve(path, imports, inner, doc)?;
            return Ok(Resolved {
                id: inner.id,
                pointer: true,
            });
        }
        let simple = match ty {
            "string" => Some(TypeDef::String(None)),
            "bool" => Some(TypeDef::Bool),
            "int32" => Some(TypeDef::Integer(Width::I32)),
            "int64" | "int" => Some(TypeDef::Integer(Width::I64)),
            "float64" => Some(TypeDef::Number),
            "interface{}" | "any" => Some(TypeDef::Any),
            "[]byte" => Some(TypeDef::Bytes),
            _ => None,
        };
        let id = if let Some(def) = simple {
            let go = if ty == "[]byte" { "[]uint8" } else { ty };
            self.builder.ty(def, go)
        } else if let Some(elem) = ty.strip_prefix("[]") {
            let elem = self.resolve(path, imports, elem, &[])?.id;
            let go = format!("[]{}", self.go_name(path, imports, &ty[2..]));
            self.builder.ty(
                TypeDef::List {
                    elem,
                    kind: list_kind(doc)?,
                    wrapped: false,
                },
                &go,
            )
        } else if let Some((key, value)) = ty.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            let go = format!(
                "map[{}]{}",
                self.go_name(path, imports, key),
                self.go_name(path, imports, value)
            );
            let value = self.resolve(path, imports, value, &[])?.id;
            self.builder.ty(
                TypeDef::Map {
                    value,
                    kind: map_kind(doc)?,
                },
                &go,
            )
        } else {
            self.named(path, imports, ty, doc)?
        };
        Ok(Resolved { id, pointer: false })
    }

    fn named(&mut self, path: &'a str, imports: &'a Imports, ty: &str, doc: &[String]) -> anyhow::Result<TypeId> {
        let (path, name) = qualify(path, imports, ty).with_context(|| format!("no import for {ty}"))?;
        let go = short(path, name);
        if let Some((_, _, def)) = SPECIAL.iter().find(|(p, n, _)| *p == path && *n == name) {
            return Ok(self.builder.ty(def.clone(), &go));
        }
        if let Some(&id) = self.structs.get(&(path, name)) {
            return Ok(self.builder.ty(TypeDef::Struct(id, struct_kind(doc)?), &go));
        }
        let sources = self.sources;
        let (path, package) = sources
            .packages
            .get_key_value(path)
            .with_context(|| format!("package {path} not read"))?;
        let (name, decl) = package
            .types
            .get_key_value(name)
            .with_context(|| format!("no type {path}.{name}"))?;
        match &decl.body {
            Body::Alias(target) => Ok(self.resolve(path, &decl.imports, target, doc)?.id),
            Body::Named(target) if target == "string" => Ok(self.string(path, package, name, decl)),
            Body::Named(target) if target.starts_with("[]") => {
                let elem = self.resolve(path, &decl.imports, &target[2..], &[])?.id;
                let wrapped = package.messages.contains_key(name.as_str());
                Ok(self.builder.ty(
                    TypeDef::List {
                        elem,
                        kind: list_kind(doc)?,
                        wrapped,
                    },
                    &go,
                ))
            }
            Body::Named(target) if target.starts_with("map[") => {
                let Some((_, value)) = target.split_once(']') else {
                    bail!("map type {target}")
                };
                let value = self.resolve(path, &decl.imports, value, &[])?.id;
                Ok(self.builder.ty(
                    TypeDef::Map {
                        value,
                        kind: map_kind(doc)?,
                    },
                    &go,
                ))
            }
            Body::Named(target) => Ok(self.resolve(path, &decl.imports, target, doc)?.id),
            Body::Struct(_) => bail!("struct {path}.{name} has no JSON members"),
        }
    }

    fn string(&mut self, path: &'a str, package: &'a Package, name: &'a str, decl: &TypeDecl) -> TypeId {
        if let Some(id) = self.enums.get(&(path, name)) {
            return *id;
        }
        let mut values: Vec<&Constant> = Vec::new();
        if has_marker(&decl.doc, "enum") {
            values = package.constants.iter().filter(|c| c.ty == name).collect();
            values.sort_by(|a, b| a.value.cmp(&b.value));
            values.dedup_by(|a, b| a.value == b.value);
        }
        let def = if values.is_empty() {
            TypeDef::String(None)
        } else {
            let text = self.text(&enum_description(&values));
            self.docs.enums.push(text);
            TypeDef::String(Some(self.builder.enumeration(values.iter().map(|c| c.value.as_str()))))
        };
        let id = self.builder.ty(def, &short(path, name));
        self.enums.insert((path, name), id);
        id
    }

    fn go_name(&self, path: &'a str, imports: &'a Imports, ty: &str) -> String {
        for prefix in ["*", "[]"] {
            if let Some(inner) = ty.strip_prefix(prefix) {
                return format!("{prefix}{}", self.go_name(path, imports, inner));
            }
        }
        let basic = ["string", "bool", "int32", "int64", "int", "float64", "interface{}"].contains(&ty);
        match ty {
            "byte" => "uint8".to_owned(),
            _ if basic => ty.to_owned(),
            _ => qualify(path, imports, ty).map_or_else(|| ty.to_owned(), |(path, name)| short(path, name)),
        }
    }

    fn register(&mut self) -> anyhow::Result<()> {
        let meta = "meta.k8s.io";
        for (path, package) in &self.sources.packages {
            let Some(group) = package.group.as_deref().filter(|_| !path.starts_with(APIMACHINERY)) else {
                continue;
            };
            let version = path.rsplit('/').next().unwrap_or_default();
            for expression in &package.registered {
                let (home, name) = qualify(path, &package.imports, expression).context("unknown import")?;
                self.root(group, version, home, name)?;
            }
            for name in EVERY_VERSION {
                self.root(group, version, META, name)?;
            }
        }
        for name in UNVERSIONED.iter().filter(|name| **name != "Status") {
            self.root("", "v1", META, name)?;
        }
        for name in META_KINDS.iter().chain(EVERY_VERSION) {
            self.root(meta, "v1", META, name)?;
        }
        Ok(())
    }

    fn root(&mut self, group: &str, version: &str, path: &str, name: &str) -> anyhow::Result<()> {
        let id = *self
            .structs
            .get(&(path, name))
            .with_context(|| format!("{path}.{name} is registered, not found"))?;
        let ty = self.builder.ty(TypeDef::Struct(id, MapKind::Unset), &short(path, name));
        self.builder.root(group, version, name, ty);
        Ok(())
    }

    fn others(&mut self) -> anyhow::Result<()> {
        for (path, name, _) in SPECIAL {
            let package = self
                .sources
                .packages
                .get(*path)
                .with_context(|| format!("package {path} not read"))?;
            let text = package
                .types
                .get(*name)
                .map(|decl| description(&decl.doc))
                .unwrap_or_default();
            let text = self.text(&text);
            self.docs.others.push((open_api_name(path, name), text));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(index) = self.texts.get(text) {
            return *index;
        }
        let index = self.docs.texts.len() as u32;
        self.docs.texts.push(text.to_owned());
        self.texts.insert(text.to_owned(), index);
        index
    }
}

fn has_json((members, ..): (&[Member], &str, &TypeDecl)) -> bool {
    members.is_empty() || members.iter().any(|m| m.tags.contains_key("json"))
}

/// Import path and name of a type expression such as `v1.Pod` or `Pod`.
fn qualify<'a, 'b>(path: &'a str, imports: &'a Imports, ty: &'b str) -> Option<(&'a str, &'b str)> {
    match ty.split_once('.') {
        Some((alias, name)) => imports.get(alias).map(|path| (path.as_str(), name)),
        None => Some((path, ty)),
    }
}

/// `k8s.io/api/core/v1` and `Pod` to `io.k8s.api.core.v1.Pod`.
fn open_api_name(path: &str, name: &str) -> String {
    let (host, rest) = path.split_once('/').unwrap_or((path, ""));
    let host: Vec<&str> = host.rsplit('.').collect();
    format!("{}.{}.{name}", host.join("."), rest.replace('/', "."))
}

/// What Go's reflection prints: `v1.Pod`.
fn short(path: &str, name: &str) -> String {
    format!("{}.{name}", path.rsplit('/').next().unwrap_or_default())
}

fn list_kind(doc: &[String]) -> anyhow::Result<ListKind> {
    Ok(match markers(doc, "listType").next() {
        None => ListKind::Unset,
        Some("atomic") => ListKind::Atomic,
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(markers(doc, "listMapKey").map(str::to_owned).collect()),
        Some(other) => bail!("listType {other}"),
    })
}

fn map_kind(doc: &[String]) -> anyhow::Result<MapKind> {
    merge_kind(doc, "mapType")
}

fn struct_kind(doc: &[String]) -> anyhow::Result<MapKind> {
    merge_kind(doc, "structType")
}

fn merge_kind(doc: &[String], marker: &str) -> anyhow::Result<MapKind> {
    Ok(match markers(doc, marker).next() {
        None => MapKind::Unset,
        Some("granular") => MapKind::Granular,
        Some("atomic") => MapKind::Atomic,
        Some(other) => bail!("{marker} {other}"),
    })
}
