//! The limits of Kubernetes v1.37 (k8s.io/apiserver/pkg/apis/cel/config.go, pkg/cel/limits.go), of cel-go's parser, and
//! our own against values that grow faster than their cost.

/// The cost that one expression may have when it is evaluated.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The cost that all expressions of a policy binding or of a custom resource may have together.
pub const RUNTIME_COST_BUDGET: u64 = 10_000_000;
/// The cost that all match conditions of one webhook or binding may have together.
pub const RUNTIME_COST_BUDGET_MATCH_CONDITIONS: u64 = 2_500_000;
/// The largest request to the API server, from which the largest sizes of unbounded fields follow.
pub const MAX_REQUEST_SIZE_BYTES: u64 = 3 * 1024 * 1024;
/// The longest text that a messageExpression may evaluate to.
pub const MAX_MESSAGE_EXPRESSION_BYTES: usize = 5 * 1024;
/// The estimated cost that one validation rule of a CRD may have
/// (k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go).
pub const STATIC_ESTIMATED_COST_LIMIT: u64 = 10_000_000;
/// The estimated cost that all validation rules of a CRD may have together.
pub const STATIC_ESTIMATED_CRD_COST_LIMIT: u64 = 100_000_000;

/// The cost of one authorization check, so that one expression may make two.
pub const AUTHORIZATION_CHECK_COST: u64 = 350_000;
/// The size of a serialised duration.
pub const MAX_DURATION_SIZE_JSON: u64 = 32;
/// The size of a serialised date and time.
pub const MAX_DATETIME_SIZE_JSON: u64 = 32;
/// The size of the shortest serialised duration.
pub const MIN_DURATION_SIZE_JSON: u64 = 3;
/// The size of a serialised date.
pub const JSON_DATE_SIZE: u64 = 12;
/// The size of the shortest serialised date and time.
pub const MIN_DATETIME_SIZE_JSON: u64 = 21;
/// The size of `""`.
pub const MIN_STRING_SIZE: u64 = 2;
/// The size of `true`.
pub const MIN_BOOL_SIZE: u64 = 4;
/// The size of `0`.
pub const MIN_NUMBER_SIZE: u64 = 1;
/// The longest name of a named format.
pub const MAX_FORMAT_SIZE: u64 = 64;
/// The size that the pattern of a named format is taken to have at most.
pub const MAX_NAME_FORMAT_REGEX_SIZE: u64 = 128;

/// Code points in an expression (cel-go's default).
pub const MAX_EXPRESSION_CODE_POINTS: usize = 100_000;
/// Nesting of an expression (cel-go's default).
pub const MAX_RECURSION_DEPTH: usize = 250;
/// Nesting of an expression after its macros are expanded; it bounds the stack that checking and evaluating take.
pub const MAX_TREE_DEPTH: usize = 512;
/// Nodes of an expression after its macros are expanded; cel-go has no such limit, and 100,000 code points without
/// nested optional macros stay below it.
pub const MAX_NODES: usize = 400_000;
/// Parts of the type of one expression.
pub const MAX_TYPE_WEIGHT: usize = 4_096;
/// Bytes of a string or of bytes that a function makes.
pub const MAX_STRING_BYTES: usize = 64 * 1024 * 1024;
/// Elements of a list that a function makes.
pub const MAX_LIST_LENGTH: usize = 4 * 1024 * 1024;
/// Comparisons of parts that one equality may need.
pub const MAX_EQUALITY_STEPS: u64 = 20_000_000;
/// Values that one conversion to JSON may make.
pub const MAX_JSON_VALUES: usize = 4 * 1024 * 1024;
/// Bytes that a compiled regular expression may take.
pub const MAX_REGEX_BYTES: usize = 10 * 1024 * 1024;
