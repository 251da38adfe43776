//! Services get no external addresses that they have not already
//! (`plugin/pkg/admission/network/denyserviceexternalips`). Off by default.

use api::{Status, Value};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

pub(super) struct DenyServiceExternalIps;

fn addresses(service: &Value) -> &[Value] {
    let list = value_at(service, "spec.externalIPs").and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

#[async_trait]
impl Plugin for DenyServiceExternalIps {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(
        &self,
        _state: &State,
        attributes: &Attributes<'_>,
        service: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(service) = service.filter(|_| attributes.is("", "services")) else {
            return Ok(());
        };
        let had = attributes.old.map(addresses).unwrap_or_default();
        if addresses(service).iter().all(|address| had.contains(address)) {
            return Ok(());
        }
        Err(attributes.forbid("Use of external IPs is denied by admission control"))
    }
}
