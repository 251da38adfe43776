//! The options of writes, read from the query (and, for deletes, the body), and validated as
//! upstream validates them (`apis/meta/v1/validation`).

use api::field::{Error, Path};
use api::{Status, Value};
use bytes::Bytes;

use crate::call::Call;
use crate::negotiate::{self, Encoding};

/// How unknown and duplicate fields are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options of create, update and patch.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// Take over fields of other managers (apply only).
    pub force: bool,
    /// Whether it is an apply.
    pub applied: bool,
}

/// Which options kind is read; its name stands in error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteVerb {
    Create,
    Update,
    Patch,
    Apply,
}

impl WriteOptions {
    /// Reads the query.
    ///
    /// # Errors
    /// 422 if a value is not allowed.
    pub fn read(call: &Call, verb: WriteVerb) -> Result<WriteOptions, Status> {
        let query = &call.query;
        let dry_run: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
        let manager = query.get("fieldManager").unwrap_or("");
        let mut errors = validate_dry_run(&dry_run);
        let kind = match verb {
            WriteVerb::Create => "CreateOptions",
            WriteVerb::Update => "UpdateOptions",
            WriteVerb::Patch | WriteVerb::Apply => "PatchOptions",
        };
        if verb == WriteVerb::Apply && manager.is_empty() {
            errors.push(Error::required(
                &Path::new("fieldManager"),
                "is required for apply patch",
            ));
        }
        if verb == WriteVerb::Patch && query.get("force").is_some() {
            let detail = "may not be specified for non-apply patch";
            errors.push(Error::forbidden(&Path::new("force"), detail));
        }
        errors.extend(validate_manager(manager));
        let field_validation = match query.get("fieldValidation").unwrap_or("") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let allowed = ["", "Ignore", "Strict", "Warn"];
                errors.push(Error::not_supported(&Path::new("fieldValidation"), other, &allowed));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", kind, "", errors));
        }
        let field_manager = if manager.is_empty() {
            call.user_agent_prefix()
        } else {
            manager
        }
        .to_owned();
        Ok(WriteOptions {
            dry_run: !dry_run.is_empty(),
            field_manager,
            field_validation,
            force: query.flag("force"),
            applied: verb == WriteVerb::Apply,
        })
    }
}

impl WriteOptions {
    /// Whether an apply takes over what others own.
    pub fn managed_force(&self) -> schema::managed::Force {
        if self.force {
            schema::managed::Force::Yes
        } else {
            schema::managed::Force::No
        }
    }
}

fn validate_dry_run(values: &[&str]) -> Vec<Error> {
    if values.iter().all(|v| *v == "All") {
        return Vec::new();
    }
    let bad: Vec<Value> = values.iter().map(|v| Value::from(*v)).collect();
    vec![Error::not_supported(&Path::new("dryRun"), Value::Array(bad), &["All"])]
}

fn validate_manager(manager: &str) -> Vec<Error> {
    let path = Path::new("fieldManager");
    let mut errors = Vec::new();
    if manager.len() > 128 {
        errors.push(Error::too_long(&path, 128));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", c as u32);
        errors.push(Error::invalid(&path, manager, detail));
    }
    errors
}

/// Who takes care of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the policies")]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// The options of a delete.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the options")]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Reads the body, or without one the query.
    ///
    /// # Errors
    /// 400 if it cannot be read, 422 if a value is not allowed.
    pub(crate) fn read(call: &Call, body: &Bytes) -> Result<DeleteOptions, Status> {
        if body.is_empty() {
            return DeleteOptions::from_query(call);
        }
        let gvk = api::Gvk::new("", "v1", "DeleteOptions");
        let value: Value = match negotiate::input(&call.headers)? {
            Encoding::Json => serde_json::from_slice(body)
                .map_err(|e| Status::bad_request(format!("couldn't get version/kind; json parse error: {e}")))?,
            encoding => {
                let root = schema::builtin()
                    .root(&gvk)
                    .ok_or_else(|| Status::internal("no type DeleteOptions"))?;
                crate::codec::decode_any_version(schema::builtin(), root, &gvk, encoding, body)?
            }
        };
        let kind = api::meta::kind(&value);
        if !kind.is_empty() && kind != "DeleteOptions" {
            // An error without a reason (`endpoints/handlers/delete.go`).
            let message = crate::codec::unregistered(kind, api::meta::api_version(&value));
            return Err(Status::failure(500, "", message));
        }
        let text = |path: &str| crate::kind::value_at(&value, path).and_then(Value::as_str);
        let dry_run = value
            .get("dryRun")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let dry_run: Vec<&str> = dry_run.iter().filter_map(Value::as_str).collect();
        DeleteOptions {
            grace_period_seconds: value.get("gracePeriodSeconds").and_then(Value::as_i64),
            uid: text("preconditions.uid").map(str::to_owned),
            resource_version: text("preconditions.resourceVersion").map(str::to_owned),
            orphan_dependents: value.get("orphanDependents").and_then(Value::as_bool),
            ..DeleteOptions::default()
        }
        .checked(text("propagationPolicy"), &dry_run)
    }

    fn from_query(call: &Call) -> Result<DeleteOptions, Status> {
        let query = &call.query;
        let dry_run: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
        DeleteOptions {
            grace_period_seconds: query.integer("gracePeriodSeconds")?,
            orphan_dependents: query.optional_flag("orphanDependents"),
            ..DeleteOptions::default()
        }
        .checked(query.non_empty("propagationPolicy"), &dry_run)
    }

    fn checked(mut self, policy: Option<&str>, dry_run: &[&str]) -> Result<Self, Status> {
        let path = Path::new("propagationPolicy");
        let mut errors = Vec::new();
        if let Some(policy) = policy {
            if self.orphan_dependents.is_some() {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(Error::invalid(&path, policy, detail));
            }
            self.propagation = match policy {
                "Orphan" => Some(Propagation::Orphan),
                "Background" => Some(Propagation::Background),
                "Foreground" => Some(Propagation::Foreground),
                _ => {
                    let allowed = ["Foreground", "Background", "Orphan", "nil"];
                    errors.push(Error::not_supported(&path, policy, &allowed));
                    None
                }
            };
        }
        errors.extend(validate_dry_run(dry_run));
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors));
        }
        self.dry_run = !dry_run.is_empty();
        // Negative values mean one second on the delete path.
        self.grace_period_seconds = self.grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
        Ok(self)
    }
}
