//! Evaluation: a checked tree is planned once (cel-go's interpreter/planner.go) and evaluated as often as needed, with
//! its cost counted on the way (interpreter/runtimecost.go).

mod attribute;
mod fold;
mod plan;
mod run;

pub(crate) use plan::{Plan, plan};
pub(crate) use run::run;
