//! Certificate signing requests: approved, signed, and cleaned up (upstream `pkg/controller/certificates`).

mod approver;
mod cleaner;
mod request;
mod signer;
#[cfg(test)]
mod tests;

use crate::controller::{Controller, Trigger, own_key};
use crate::{Untyped, UntypedKind};

const ACCOUNT: &str = "certificate-controller";
const REQUESTS: UntypedKind = UntypedKind::CertificateSigningRequest;

pub(crate) const APPROVER: Controller = Controller {
    name: "certificatesigningrequest-approving-controller",
    account: ACCOUNT,
    triggers: &[Trigger::Untyped(REQUESTS, own_key)],
    reconcile: approver::reconcile,
};

pub(crate) const SIGNER: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    account: ACCOUNT,
    triggers: &[Trigger::Untyped(REQUESTS, own_key)],
    reconcile: signer::reconcile,
};

pub(crate) const CLEANER: Controller = Controller {
    name: "certificatesigningrequest-cleaner-controller",
    account: ACCOUNT,
    triggers: &[Trigger::Untyped(REQUESTS, own_key)],
    reconcile: cleaner::reconcile,
};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

fn is_issued(request: &Untyped) -> bool {
    !request.text("status.certificate").is_empty()
}
