//! What one kind does differently from all others, as optional small functions.

use std::sync::Arc;

use api::{Value, field};
use jiff::Timestamp;

use crate::user::UserInfo;

/// What a strategy function may know about the request.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The server's time for this request.
    pub now: Timestamp,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// Changes an object in place, e.g. computed defaults.
pub type MutateFn = Arc<dyn Fn(&mut Value) + Send + Sync>;
/// Prepares a new object.
pub type PrepareCreateFn = Arc<dyn Fn(&Context<'_>, &mut Value) + Send + Sync>;
/// Prepares (new, old) of an update.
pub type PrepareUpdateFn = Arc<dyn Fn(&Context<'_>, &mut Value, &Value) + Send + Sync>;
/// Validates one object.
pub type ValidateFn = Arc<dyn Fn(&Value) -> Vec<field::Error> + Send + Sync>;
/// Validates (new, old) of an update.
pub type ValidateUpdateFn = Arc<dyn Fn(&Value, &Value) -> Vec<field::Error> + Send + Sync>;
/// Warnings for (new, old); old is absent on create.
pub type WarningsFn = Arc<dyn Fn(&Value, Option<&Value>) -> Vec<String> + Send + Sync>;
/// Whether the change from old to new moves the generation; called with (new, old).
pub type SpecChangedFn = Arc<dyn Fn(&Value, &Value) -> bool + Send + Sync>;
/// (object, requested grace seconds) -> the grace period, or `None` to delete at once.
pub type GraceFn = Arc<dyn Fn(&Value, Option<i64>) -> Option<i64> + Send + Sync>;
/// Asked of an object marked for deletion without metadata finalizers: is it still held back?
pub type HeldFn = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

/// The optional functions of a kind. Where one is absent the generic behaviour holds.
///
/// Order on create: decode, schema defaults, `default`, admission, metadata filled (uid, times,
/// generation, no status if the kind has a status subresource), `prepare_create`, allocations,
/// `validate`, metadata validation, `warnings`, `canonicalize`, store.
/// Order on update: patch or decode, schema defaults, `default`, admission, metadata and status
/// (or what the subresource says) taken from the old object, `prepare_update`, generation,
/// `validate_update` and metadata validation, `warnings`, `canonicalize`, store if anything
/// changed.
#[derive(Clone, Default)]
pub struct Strategy {
    /// Defaults that a schema cannot state (computed from other fields). Must be idempotent.
    pub default: Option<MutateFn>,
    /// `PrepareForCreate`: clear what clients may not set. `status` is already removed for kinds
    /// with a status subresource.
    pub prepare_create: Option<PrepareCreateFn>,
    /// `PrepareForUpdate`: put back what clients may not change. `status` is already put back for
    /// kinds with a status subresource.
    pub prepare_update: Option<PrepareUpdateFn>,
    /// `Validate`: every error of a new object, beyond metadata.
    pub validate: Option<ValidateFn>,
    /// `ValidateUpdate`: every error of a changed object: upstream mostly validates the new object
    /// too, so do that here. Absent: `validate` of the new object.
    pub validate_update: Option<ValidateUpdateFn>,
    /// `WarningsOnCreate` / `WarningsOnUpdate`.
    pub warnings: Option<WarningsFn>,
    /// `Canonicalize`: the last change before it is stored.
    pub canonicalize: Option<MutateFn>,
    /// Applied to every object read from the store, before it is served (`AfterRead` /
    /// `Decorator` upstream): for fields that old stored objects lack. Rare.
    pub after_read: Option<MutateFn>,
    /// When `metadata.generation` moves.
    pub generation: Generation,
    /// How the kind is deleted.
    pub deletion: Deletion,
    /// How names are checked.
    pub name: NameRule,
    /// PUT of a name that does not exist creates it (`AllowCreateOnUpdate`).
    pub allow_create_on_update: bool,
    /// PUT without resourceVersion is accepted (`AllowUnconditionalUpdate`).
    pub allow_unconditional_update: AllowUnconditionalUpdate,
    /// Dotted paths, beside `status`, that apply through the main resource does not own.
    pub resets: Vec<&'static str>,
    /// A new object keeps the status it comes with (nodes), though there is a status subresource.
    pub keeps_status_on_create: bool,
}

/// Whether a PUT may omit the resourceVersion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowUnconditionalUpdate {
    /// It may: the newest version is replaced.
    #[default]
    Yes,
    /// It must name the version it replaces (422 otherwise).
    No,
}

/// When `metadata.generation` moves.
#[derive(Clone, Default)]
pub enum Generation {
    /// The kind has none.
    #[default]
    Unused,
    /// 1 on create, +1 whenever anything but `metadata` and `status` changes.
    Spec,
    /// 1 on create, +1 whenever the function says so.
    When(SpecChangedFn),
}

/// How objects of a kind go away.
#[derive(Clone, Default)]
pub struct Deletion {
    /// Graceful deletion (pods): the grace period in seconds, given the object and what the client
    /// asked for; `None` or 0 deletes at once. Absent: the kind knows no grace.
    pub grace: Option<GraceFn>,
    /// Changes the object when it is marked for deletion (namespaces: phase Terminating).
    pub on_mark: Option<MutateFn>,
    /// Finalizers of the kind's own (namespaces: `spec.finalizers`): while this says true the
    /// object is only marked, and goes once an update makes it false.
    pub held: Option<HeldFn>,
    /// Kinds whose dependents are orphaned when the client does not say (`OrphanDependents` as
    /// default garbage collection policy: replicationcontrollers, old jobs).
    pub orphan_by_default: bool,
    /// Kinds without garbage collection (events): propagation policies do nothing.
    pub no_garbage_collection: bool,
    /// Answers a finished delete with the object instead of a Status (`ReturnDeletedObject`: pods,
    /// services, serviceaccounts, namespaces, persistentvolumes and -claims, podtemplates,
    /// resourcequotas, storageclasses, csi*, volumeattachments, resourceclaims…).
    pub returns_object: bool,
}

/// How names are checked, upstream's wording included.
#[derive(Clone, Default)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    #[default]
    Dns1123Subdomain,
    /// RFC 1123 label: namespaces, and others.
    Dns1123Label,
    /// RFC 1035 label.
    Dns1035Label,
    /// Anything that can be a path segment: RBAC kinds.
    PathSegment,
    /// A rule of its own: name -> messages. A generateName is masked before it is asked.
    Custom(fn(&str) -> Vec<String>),
}
