//! Pods' requests for certificates go after a while (upstream `pkg/controller/certificates/cleaner/pcrcleaner.go`).

use jiff::SignedDuration;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::created;
use crate::plan::Plan;
use crate::{Key, Turn, UntypedKind, World};

/// As upstream's controller manager says.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);
const REQUESTS: UntypedKind = UntypedKind::PodCertificateRequest;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "podcertificaterequest-cleaner-controller",
    account: "podcertificaterequestcleaner",
    triggers: &[Trigger::Untyped(REQUESTS, own_key)],
    reconcile,
};

/// Deletes one request when its time has come.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(request) = world.untyped(REQUESTS).get(&key.namespace, &key.name) else {
        return plan;
    };
    let left = created(&*request).map_or(LIFETIME, |created| LIFETIME - turn.now.duration_since(created));
    if left.is_positive() {
        plan.look_again(left);
    } else {
        plan.act(REQUESTS.delete(&request));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use serde_json::json;

    #[test]
    fn a_request_lives_for_a_quarter_of_an_hour() {
        let mut fake = Fake::new();
        fake.put(
            "podcertificaterequests",
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
                "metadata": {"namespace": "ns", "name": "r"}, "spec": {}}),
        );
        let key = Key::new("ns", "r");
        fake.sleep(899);
        let plan = reconcile(&fake, &key, &fake.turn());
        assert_eq!(
            (plan.is_empty(), plan.requeue_after),
            (true, Some(SignedDuration::from_secs(1)))
        );
        fake.sleep(1);
        fake.settle(reconcile, &key);
        assert!(fake.untyped(REQUESTS).list("").is_empty());
    }
}
