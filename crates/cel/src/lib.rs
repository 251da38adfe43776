//! The Common Expression Language as Kubernetes v1.37 enables it.
//!
//! An [`Env`] declares what expressions can use. It compiles a text to a [`Program`], which was parsed within limits,
//! checked for its types, and planned; a program estimates its cost from the sizes that values can have, and is evaluated
//! on an [`Activation`] within a cost limit. Values of JSON are looked at in place ([`Value::from_json`]), by the
//! declaration ([`Decl`]) that an OpenAPI schema makes.
//!
//! ```
//! use std::sync::Arc;
//! use cel::{Activation, Decl, DeclSizes, DeclTypes, Env, Value, limits};
//! use serde_json::json;
//!
//! let schema = json!({
//!     "type": "object",
//!     "properties": {
//!         "replicas": {"type": "integer"},
//!         "names": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 63}},
//!     },
//! });
//! let decl = Decl::from_schema(&schema, "selfType", false).expect("a schema with a type");
//! let env = Env::kubernetes()
//!     .types(Arc::new(DeclTypes::new([&decl])))
//!     .variable("self", decl.ty())
//!     .build();
//! let program = env.compile("self.names.all(n, n.startsWith('a')) && self.replicas <= 5").expect("a valid rule");
//! assert!(!program.uses("oldSelf"));
//!
//! let estimate = program.cost_estimate(&DeclSizes::new().with("self", decl.clone()));
//! assert!(estimate.max < limits::STATIC_ESTIMATED_COST_LIMIT);
//!
//! let object = Arc::new(json!({"replicas": 3, "names": ["a", "ab"]}));
//! let activation = Activation::new().with("self", Value::from_json(object, &decl).expect("an object"));
//! let (value, cost) = program.evaluate(&activation, limits::PER_CALL_LIMIT).expect("a value");
//! assert_eq!(value.as_bool(), Some(true));
//! assert!(cost <= estimate.max);
//!
//! let issues = env.compile("self.replica > 1").expect_err("no such field");
//! assert_eq!(
//!     issues.to_string(),
//!     "ERROR: <input>:1:5: undefined field 'replica'\n | self.replica > 1\n | ....^"
//! );
//! ```
//!
//! # Invariants
//!
//! - Whatever the text, compiling ends, in time and memory that the limits bound, and nothing panics: nesting, nodes and
//!   the weight of types are limited ([`limits`]).
//! - Evaluation ends: each step costs something or is one of finitely many in the text, and what grows faster than its
//!   cost in cel-go (replacing in strings, equality of shared values, ranges) has a limit of its own.
//! - Costs are cel-go v0.29's and Kubernetes' own to the unit, for expressions that give a value. For those that fail,
//!   the cost of the failed part is near it.
//!
//! # What it does not know
//!
//! Protocol buffers: there are no messages, enums or wrappers. Who asks and what is admitted: variables, object types and
//! the authorizer are the caller's. No clock: there is no `now`.

mod activation;
pub mod authorizer;
mod check;
mod cost;
mod env;
mod error;
pub mod escape;
mod eval;
mod function;
mod issue;
mod library;
pub mod limits;
mod program;
mod provider;
mod schema;
mod syntax;
mod time;
mod types;
mod value;

pub use activation::{Activation, LazyValue};
pub use cost::{CostEstimate, NoHints, SizeEstimate, SizeHints};
pub use env::{Env, EnvBuilder};
pub use error::{ErrorKind, EvalError};
pub use issue::{Issue, Issues};
pub use library::Library;
pub use library::{format::NamedFormat, network::Cidr, semver::Semver, url::Url};
pub use program::Program;
pub use provider::{MutationTypes, TypeProvider};
pub use schema::{Decl, DeclSizes, DeclTypes, ListKind, Shape};
pub use time::Timestamp;
pub use types::Type;
pub use value::{HostObject, Json, Key, List, Map, Opaque, Struct, Text, Value};
