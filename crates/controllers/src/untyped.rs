//! Objects that are seen without a type: a typed kind costs build time, and these controllers read few fields.

use api::{Gvr, Map, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::plan::{Action, Mint, Reference, Target, Verb};

static NULL: Value = Value::Null;
const CERTIFICATES: &str = "certificates.k8s.io";
const RESOURCE: &str = "resource.k8s.io";

/// An object of some kind: its metadata, and the rest as it came. Its group and kind are its cache's, not its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Untyped {
    /// The metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Everything else.
    #[serde(flatten)]
    pub body: Map<String, Value>,
}

typed::object_of_any_kind!(Untyped);

impl Untyped {
    /// The value at a path of fields with dots between; null if there is none.
    pub fn at(&self, path: &str) -> &Value {
        let mut fields = path.split('.');
        let first = fields.next().and_then(|field| self.body.get(field));
        fields.fold(first.unwrap_or(&NULL), |value, field| value.get(field).unwrap_or(&NULL))
    }

    /// The text at a path, or empty.
    pub fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or("")
    }

    /// The list at a path, or empty.
    pub fn list(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }

    /// The texts of a list.
    pub fn texts(&self, path: &str) -> Vec<&str> {
        self.list(path).iter().filter_map(Value::as_str).collect()
    }

    /// A field of the body, made if it is missing.
    pub fn entry(&mut self, field: &str) -> &mut Value {
        let value = self.body.entry(field).or_insert(Value::Null);
        if value.is_null() {
            *value = json!({});
        }
        value
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The bytes of a Secret's key that are text; empty if they are none.
    pub fn secret_text(&self, key: &str) -> String {
        let encoded = self.at("data").get(key).and_then(Value::as_str).unwrap_or("");
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// The conditions of its status, by type.
    pub fn condition(&self, kind: &str) -> Option<&Value> {
        self.list("status.conditions")
            .iter()
            .find(|condition| condition["type"] == kind)
    }
}

/// The kinds that are seen without a type. One resource may be several of them, each a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the kinds")]
pub enum UntypedKind {
    CertificateSigningRequest,
    ClusterInfo,
    BootstrapToken,
    AccountToken,
    LegacyTokenTracking,
    ServingTrustBundle,
    PodCertificateRequest,
    StorageVersionMigration,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
    DeviceTaintRule,
}

/// What is seen of a resource.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Only this namespace; empty is all.
    pub namespace: &'static str,
    /// Only objects with this field.
    pub field: &'static str,
    /// Its value.
    pub value: &'static str,
}

const fn named(namespace: &'static str, name: &'static str) -> Option<Selection> {
    Some(Selection {
        namespace,
        field: "metadata.name",
        value: name,
    })
}

const fn of_type(namespace: &'static str, value: &'static str) -> Option<Selection> {
    Some(Selection {
        namespace,
        field: "type",
        value,
    })
}

impl UntypedKind {
    /// All of them, in the order of their numbers.
    pub const ALL: &'static [UntypedKind] = &[
        UntypedKind::CertificateSigningRequest,
        UntypedKind::ClusterInfo,
        UntypedKind::BootstrapToken,
        UntypedKind::AccountToken,
        UntypedKind::LegacyTokenTracking,
        UntypedKind::ServingTrustBundle,
        UntypedKind::PodCertificateRequest,
        UntypedKind::StorageVersionMigration,
        UntypedKind::ResourceClaim,
        UntypedKind::ResourceClaimTemplate,
        UntypedKind::ResourceSlice,
        UntypedKind::DeviceTaintRule,
    ];

    /// (group, version, resource, kind)
    const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::CertificateSigningRequest => (
                CERTIFICATES,
                "v1",
                "certificatesigningrequests",
                "CertificateSigningRequest",
            ),
            Self::ServingTrustBundle => (CERTIFICATES, "v1", "clustertrustbundles", "ClusterTrustBundle"),
            Self::PodCertificateRequest => (CERTIFICATES, "v1", "podcertificaterequests", "PodCertificateRequest"),
            Self::StorageVersionMigration => (
                "storagemigration.k8s.io",
                "v1",
                "storageversionmigrations",
                "StorageVersionMigration",
            ),
            Self::ResourceClaim => (RESOURCE, "v1", "resourceclaims", "ResourceClaim"),
            Self::ResourceClaimTemplate => (RESOURCE, "v1", "resourceclaimtemplates", "ResourceClaimTemplate"),
            Self::ResourceSlice => (RESOURCE, "v1", "resourceslices", "ResourceSlice"),
            Self::DeviceTaintRule => (RESOURCE, "v1", "devicetaintrules", "DeviceTaintRule"),
            Self::ClusterInfo | Self::LegacyTokenTracking => ("", "v1", "configmaps", "ConfigMap"),
            Self::BootstrapToken | Self::AccountToken => ("", "v1", "secrets", "Secret"),
        }
    }

    /// What is seen of the resource; all of it, if none.
    pub const fn selection(self) -> Option<Selection> {
        match self {
            Self::ClusterInfo => named("kube-public", "cluster-info"),
            Self::LegacyTokenTracking => named("kube-system", "kube-apiserver-legacy-service-account-token-tracking"),
            Self::BootstrapToken => of_type("kube-system", "bootstrap.kubernetes.io/token"),
            Self::AccountToken => of_type("", "kubernetes.io/service-account-token"),
            Self::ServingTrustBundle => Some(Selection {
                namespace: "",
                field: "spec.signerName",
                value: "kubernetes.io/kube-apiserver-serving",
            }),
            _ => None,
        }
    }

    /// Its resource.
    pub fn gvr(self) -> Gvr {
        let (group, version, resource, _) = self.names();
        Gvr::new(group, version, resource)
    }

    fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        }
    }

    /// All of an object, as it is sent.
    fn whole(self, object: &Untyped) -> Value {
        let mut whole = crate::to_value(object);
        whole["apiVersion"] = self.api_version().into();
        whole["kind"] = self.names().3.into();
        whole
    }

    /// The object, if it still has the UID that was seen.
    pub fn target(self, object: &Untyped) -> Target {
        let metadata = &object.metadata;
        Target {
            resource: self.gvr(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone(),
            resource_version: None,
        }
    }

    /// The object, if it still is as it was seen.
    pub fn target_version(self, object: &Untyped) -> Target {
        Target {
            resource_version: object.metadata.resource_version.clone(),
            ..self.target(object)
        }
    }

    /// Replaces an object, or a part of it, by a changed copy, if it still is as it was seen.
    pub fn replace(self, changed: &Untyped, subresource: &'static str) -> Action {
        Action::new(Verb::Replace {
            target: self.target_version(changed),
            subresource,
            object: self.whole(changed),
        })
    }

    /// The same, with a value that only the holder of a key can make at a JSON pointer.
    pub fn mint(self, changed: &Untyped, subresource: &'static str, pointer: &'static str, mint: Mint) -> Action {
        Action::new(Verb::Mint {
            target: self.target_version(changed),
            subresource,
            object: self.whole(changed),
            pointer,
            mint,
        })
    }

    /// Patches an object, or a part of it, if it still has the UID that was seen.
    pub fn patch(self, object: &Untyped, subresource: &'static str, body: Value) -> Action {
        Action::new(Verb::Patch {
            target: self.target(object),
            subresource,
            body,
        })
    }

    /// The same, if it still is as it was seen.
    pub fn patch_version(self, object: &Untyped, subresource: &'static str, body: Value) -> Action {
        Action::new(Verb::Patch {
            target: self.target_version(object),
            subresource,
            body,
        })
    }

    /// Deletes an object, if it still has the UID that was seen.
    pub fn delete(self, object: &Untyped) -> Action {
        Action::new(Verb::Delete {
            target: self.target(object),
            grace_period_seconds: None,
            propagation: None,
        })
    }

    /// Creates an object.
    pub fn create(self, object: &Untyped) -> Action {
        Action::new(Verb::Create {
            resource: self.gvr(),
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            object: self.whole(object),
            if_absent: false,
        })
    }

    /// A reference to an object.
    pub fn reference(self, object: &Untyped) -> Reference {
        let target = self.target_version(object);
        Reference {
            api_version: self.api_version(),
            kind: self.names().3.to_owned(),
            namespace: target.namespace,
            name: target.name,
            uid: target.uid.unwrap_or_default(),
            resource_version: target.resource_version.unwrap_or_default(),
        }
    }
}
