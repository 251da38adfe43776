//! Everything passes, and nothing does (`plugin/pkg/admission/{admit,deny}`). Upstream keeps both by
//! name for old command lines.

use api::{Status, Value};
use async_trait::async_trait;

use super::{Attributes, Plugin, Step};
use crate::state::State;

/// Nothing to do: `AlwaysAdmit`, and plugins that upstream runs only with a feature that is off by
/// default at this version.
pub(super) struct Admit;

#[async_trait]
impl Plugin for Admit {
    fn concerns(&self, _step: Step, _group: &str, _plural: &str) -> bool {
        false
    }
}

pub(super) struct Deny;

const WHY: &str = "admission control is denying all modifications";

#[async_trait]
impl Plugin for Deny {
    async fn mutate(&self, _state: &State, attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Err(attributes.forbid(WHY))
    }

    async fn validate(
        &self,
        _state: &State,
        attributes: &Attributes<'_>,
        _object: Option<&Value>,
    ) -> Result<(), Status> {
        Err(attributes.forbid(WHY))
    }
}
