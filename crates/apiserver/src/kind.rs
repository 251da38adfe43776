//! The descriptor of a kind: everything the server knows about one, built-in or custom.
//!
//! Routes, discovery, OpenAPI, tables, selectors, protobuf, patching and RBAC names are derived
//! from it. A kind is made with [`Kind::namespaced`] or [`Kind::cluster`] and the methods after
//! them; there is no code per kind anywhere else in this crate.

mod allocation;
mod fields;
mod strategy;
mod subresource;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::{Gvk, Value, field};
use jiff::Timestamp;
use schema::{Schema, TypeId};

use crate::custom::Custom;

pub use allocation::{Allocation, Claim, ClaimObjectFn, ClaimObjects, FillFn, HeldClaimsFn, Networks, Pick, PickError};
pub use fields::{ExtractFn, SelectableField, value_at};
pub use strategy::{
    AllowUnconditionalUpdate, Context, Deletion, Generation, GraceFn, HeldFn, MutateFn, NameRule, PrepareCreateFn,
    PrepareUpdateFn, SpecChangedFn, Strategy, ValidateFn, ValidateUpdateFn, WarningsFn,
};
pub use subresource::{Action, Behaviour, Connect, Part, PartPrepareFn, PartValidateFn, ScalePaths, Subresource};
pub(crate) use table::CREATED_AT;
pub use table::{Column, Row, RowFn};

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster.
    Cluster,
}

/// What can be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the verbs")]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// Every verb of an ordinary kind, in discovery's order.
    pub const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// As discovery and RBAC write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }

    /// The verb of that name.
    pub fn parse(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.as_str() == name)
    }
}

/// Where and as what objects are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// First part of the key; kinds with equal group and resource share their objects.
    pub group: String,
    /// Second part of the key.
    pub resource: String,
    /// The version objects are stored in. Where it is not the kind's own, [`Kind::conversion`]
    /// says how to get there.
    pub gvk: Gvk,
}

/// Conversion between a served version and the stored one. Both get the object with its
/// `apiVersion` and `kind` already set to the target's.
#[derive(Clone)]
pub struct Conversion {
    /// Served to stored.
    pub to_storage: MutateFn,
    /// Stored to served.
    pub from_storage: MutateFn,
}

/// A kind of one group and version, as it is served.
#[derive(Clone)]
pub struct Kind {
    /// Group, version and kind of the objects.
    pub gvk: Gvk,
    /// The kind of lists, `<Kind>List`.
    pub list_kind: String,
    /// The resource name in paths: `configmaps`.
    pub plural: String,
    /// The name for people: `configmap`.
    pub singular: String,
    /// kubectl's abbreviations: `cm`.
    pub short_names: Vec<String>,
    /// Groups of resources for kubectl: `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// Where and in which version objects are stored. Default: the kind's own.
    pub storage: Storage,
    /// How to and from the stored version; `None` where that only renames `apiVersion`.
    pub conversion: Option<Conversion>,
    /// The schema the type lives in (one for all built-in kinds, one for each CRD version).
    pub schema: Arc<Schema>,
    /// The object's type in `schema`.
    pub root: TypeId,
    /// What may be done with it, in discovery's (alphabetical) order.
    pub verbs: Vec<Verb>,
    /// What follows the object's name in paths.
    pub subresources: Vec<Subresource>,
    /// Table columns. Empty: `Name` and `Created At`.
    pub columns: Vec<Column>,
    /// The row of an object; `None` goes with empty columns.
    pub row: Option<RowFn>,
    /// Fields that `fieldSelector` may name beside name and namespace.
    pub selectable: Vec<SelectableField>,
    /// What this kind does differently.
    pub strategy: Strategy,
    /// Values unique in the cluster that its objects hold.
    pub allocation: Option<Allocation>,
    /// How long an object lives after its last write (events: an hour); `None` is forever.
    pub ttl: Option<Duration>,
    /// What clients who use it are warned of.
    pub deprecated: Option<&'static str>,
    /// What makes it a custom resource's kind.
    pub(crate) custom: Option<Arc<Custom>>,
}

impl Kind {
    /// A namespaced built-in kind, typed by the built-in schema.
    ///
    /// # Panics
    /// If the built-in schema has no such type: the list of kinds is wrong, which a test finds.
    pub fn namespaced(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Kind::builtin(Gvk::new(group, version, kind), plural, Scope::Namespaced)
    }

    /// A cluster-scoped built-in kind. Panics as [`Kind::namespaced`] does.
    pub fn cluster(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Kind::builtin(Gvk::new(group, version, kind), plural, Scope::Cluster)
    }

    fn builtin(gvk: Gvk, plural: &str, scope: Scope) -> Self {
        let schema = schema::builtin();
        let root = schema.root(&gvk).unwrap_or_else(|| panic!("no built-in type {gvk:?}"));
        Kind::new(gvk, plural, scope, schema.clone(), root)
    }

    /// A kind of any schema.
    pub fn new(gvk: Gvk, plural: &str, scope: Scope, schema: Arc<Schema>, root: TypeId) -> Self {
        Kind {
            list_kind: format!("{}List", gvk.kind),
            plural: plural.to_owned(),
            singular: gvk.kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            storage: Storage {
                group: gvk.group.clone(),
                resource: plural.to_owned(),
                gvk: gvk.clone(),
            },
            conversion: None,
            gvk,
            schema,
            root,
            verbs: Verb::ALL.to_vec(),
            subresources: Vec::new(),
            columns: Vec::new(),
            row: None,
            selectable: Vec::new(),
            strategy: Strategy::default(),
            allocation: None,
            ttl: None,
            deprecated: None,
            custom: None,
        }
    }

    /// Sets the short names.
    pub fn short_names(mut self, names: &[&str]) -> Self {
        self.short_names = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// Sets the categories.
    pub fn categories(mut self, names: &[&str]) -> Self {
        self.categories = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// Sets the verbs, where they are not all eight.
    pub fn verbs(mut self, verbs: &[Verb]) -> Self {
        self.verbs = verbs.to_vec();
        self.verbs.sort();
        self
    }

    /// Stores the objects with those of another kind, in that kind's version.
    pub fn stored_as(mut self, group: &str, resource: &str, gvk: Gvk) -> Self {
        self.storage = Storage {
            group: group.into(),
            resource: resource.into(),
            gvk,
        };
        self
    }

    /// Sets how objects get to and from the stored version.
    pub fn converted(
        mut self,
        to_storage: impl Fn(&mut Value) + Send + Sync + 'static,
        from_storage: impl Fn(&mut Value) + Send + Sync + 'static,
    ) -> Self {
        self.conversion = Some(Conversion {
            to_storage: Arc::new(to_storage),
            from_storage: Arc::new(from_storage),
        });
        self
    }

    /// Adds a subresource.
    pub fn subresource(mut self, subresource: Subresource) -> Self {
        self.subresources.push(subresource);
        self
    }

    /// Adds the plain `status` subresource.
    pub fn with_status(self) -> Self {
        self.subresource(Subresource::status())
    }

    /// Adds `scale` at the usual paths.
    pub fn with_scale(self) -> Self {
        self.subresource(Subresource::scale())
    }

    /// Sets the table.
    pub fn table<R: Into<Row>>(
        mut self,
        columns: Vec<Column>,
        row: impl Fn(&Value, Timestamp) -> R + Send + Sync + 'static,
    ) -> Self {
        self.columns = columns;
        self.row = Some(Arc::new(move |object, now| row(object, now).into()));
        self
    }

    /// Adds a selectable field.
    pub fn selectable(mut self, field: SelectableField) -> Self {
        self.selectable.push(field);
        self
    }

    /// Adds selectable fields that are plain paths.
    pub fn selectable_paths(mut self, paths: &[&'static str]) -> Self {
        self.selectable.extend(paths.iter().map(|p| SelectableField::path(*p)));
        self
    }

    /// Sets [`Strategy::default`].
    pub fn default(mut self, f: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.strategy.default = Some(Arc::new(f));
        self
    }

    /// Sets [`Strategy::prepare_create`].
    pub fn prepare_create(mut self, f: impl Fn(&Context<'_>, &mut Value) + Send + Sync + 'static) -> Self {
        self.strategy.prepare_create = Some(Arc::new(f));
        self
    }

    /// Sets [`Strategy::prepare_update`]; called with (context, new, old).
    pub fn prepare_update(mut self, f: impl Fn(&Context<'_>, &mut Value, &Value) + Send + Sync + 'static) -> Self {
        self.strategy.prepare_update = Some(Arc::new(f));
        self
    }

    /// Sets [`Strategy::validate`].
    pub fn validate(mut self, f: impl Fn(&Value) -> Vec<field::Error> + Send + Sync + 'static) -> Self {
        self.strategy.validate = Some(Arc::new(f));
        self
    }

    /// Sets [`Strategy::validate_update`]; called with (new, old).
    pub fn validate_update(mut self, f: impl Fn(&Value, &Value) -> Vec<field::Error> + Send + Sync + 'static) -> Self {
        self.strategy.validate_update = Some(Arc::new(f));
        self
    }

    /// Sets [`Kind::deprecated`].
    pub fn deprecated(mut self, warning: &'static str) -> Self {
        self.deprecated = Some(warning);
        self
    }

    /// Sets [`Strategy::warnings`]; called with (new, old).
    pub fn warnings(mut self, f: impl Fn(&Value, Option<&Value>) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.strategy.warnings = Some(Arc::new(f));
        self
    }

    /// Sets [`Strategy::canonicalize`].
    pub fn canonicalize(mut self, f: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.strategy.canonicalize = Some(Arc::new(f));
        self
    }

    /// `metadata.generation` starts at 1 and moves with everything but metadata and status.
    pub fn with_generation(mut self) -> Self {
        self.strategy.generation = Generation::Spec;
        self
    }

    /// `metadata.generation` starts at 1 and moves when the function, given (new, old), says so.
    pub fn generation_when(mut self, f: impl Fn(&Value, &Value) -> bool + Send + Sync + 'static) -> Self {
        self.strategy.generation = Generation::When(Arc::new(f));
        self
    }

    /// Sets how objects go away.
    pub fn deletion(mut self, deletion: Deletion) -> Self {
        self.strategy.deletion = deletion;
        self
    }

    /// A finished delete answers with the object (see [`Deletion::returns_object`]).
    pub fn returns_deleted_object(mut self) -> Self {
        self.strategy.deletion.returns_object = true;
        self
    }

    /// Dependents are orphaned unless the client says otherwise.
    pub fn orphans_by_default(mut self) -> Self {
        self.strategy.deletion.orphan_by_default = true;
        self
    }

    /// Sets how names are checked.
    pub fn name_rule(mut self, rule: NameRule) -> Self {
        self.strategy.name = rule;
        self
    }

    /// PUT of an absent name creates it.
    pub fn allow_create_on_update(mut self) -> Self {
        self.strategy.allow_create_on_update = true;
        self
    }

    /// PUT must carry a resourceVersion.
    pub fn forbid_unconditional_update(mut self) -> Self {
        self.strategy.allow_unconditional_update = AllowUnconditionalUpdate::No;
        self
    }

    /// A new object keeps the status it comes with.
    pub fn keeps_status_on_create(mut self) -> Self {
        self.strategy.keeps_status_on_create = true;
        self
    }

    /// Sets the allocation hook.
    pub fn allocates(
        mut self,
        held: impl Fn(&Value) -> BTreeSet<Claim> + Send + Sync + 'static,
        fill: impl Fn(&mut Value, Option<&Value>, &mut dyn Pick) -> Vec<field::Error> + Send + Sync + 'static,
    ) -> Self {
        self.allocation = Some(Allocation {
            held: Arc::new(held),
            fill: Arc::new(fill),
            objects: None,
        });
        self
    }

    /// Makes some of the claims objects of their own; after [`Kind::allocates`].
    pub fn claims_objects(mut self, objects: ClaimObjects) -> Self {
        if let Some(allocation) = &mut self.allocation {
            allocation.objects = Some(objects);
        }
        self
    }

    /// Objects expire this long after their last write.
    pub fn expires_after(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The subresource of that name.
    pub fn find_subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether it has a `status` subresource, so that the main resource does not change `status`.
    pub fn has_status(&self) -> bool {
        self.find_subresource("status").is_some()
    }

    /// Whether it is typed by the built-in schema: the items of lists of such kinds carry neither `kind`
    /// nor `apiVersion`, those of custom resources do.
    pub fn is_builtin(&self) -> bool {
        Arc::ptr_eq(&self.schema, schema::builtin())
    }

    /// Whether a new object starts without the status it comes with.
    pub fn clears_status(&self) -> bool {
        self.has_status() && !self.strategy.keeps_status_on_create
    }

    /// Whether objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}
