//! Subresources of a kind: what follows the object's name in a path.

use std::sync::Arc;

use api::{Gvk, Value, field};

use super::{Context, Verb};

/// Prepares an update of a part: resets in `new` what this subresource must not change.
pub type PartPrepareFn = Arc<dyn Fn(&Context<'_>, &mut Value, &Value) + Send + Sync>;
/// Validates the new object against the old one.
pub type PartValidateFn = Arc<dyn Fn(&Value, &Value) -> Vec<field::Error> + Send + Sync>;

/// One subresource.
#[derive(Clone)]
pub struct Subresource {
    /// The last path segment, e.g. `status`.
    pub name: &'static str,
    /// The kind its requests and answers carry, as discovery lists it. `None`: the parent's kind.
    pub gvk: Option<Gvk>,
    /// The verbs discovery lists for it, in upstream's (alphabetical) order.
    pub verbs: Vec<Verb>,
    /// What it does.
    pub behaviour: Behaviour,
}

/// What a subresource does.
#[derive(Clone)]
pub enum Behaviour {
    /// get/update/patch of the same stored object, of which only a part may change:
    /// status, ephemeralcontainers, resize, approval, finalize.
    Part(Part),
    /// get/update/patch of an `autoscaling/v1` Scale over the object's replica counts.
    Scale(ScalePaths),
    /// A create that acts on the object.
    Create(Action),
    /// A connection to a running pod, node or service.
    Connect(Connect),
}

/// How an update through a part subresource behaves.
#[derive(Clone, Default)]
pub struct Part {
    /// Resets what may not change. Without it, everything but `status` and `metadata` is taken from the
    /// stored object; owner references too.
    pub prepare: Option<PartPrepareFn>,
    /// Validates the change. Without it nothing beyond metadata is checked.
    pub validate: Option<PartValidateFn>,
    /// Dotted paths whose fields server-side apply through this part does not own
    /// (`GetResetFields` upstream). Empty for `status`: `spec` is meant.
    pub resets: Vec<&'static str>,
}

/// Where the numbers of a Scale are in the object, as dotted paths (`spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted count.
    pub spec_replicas: String,
    /// The observed count.
    pub status_replicas: String,
    /// The selector: a LabelSelector, a label map, or (CRDs) its string form.
    pub selector: Option<String>,
}

/// Creates that act on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `pods/binding`: sets the pod's node.
    Binding,
    /// `pods/eviction`: deletes the pod if its disruption budgets allow.
    Eviction,
    /// `serviceaccounts/token`: issues a bound token.
    Token,
}

/// Connections, proxied to a node agent or a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// `pods/log` (get).
    Log,
    /// `pods/exec`.
    Exec,
    /// `pods/attach`.
    Attach,
    /// `pods/portforward`.
    PortForward,
    /// `pods/proxy`: HTTP to the pod's address.
    PodProxy,
    /// `nodes/proxy`: HTTP to the node agent.
    NodeProxy,
    /// `services/proxy`: HTTP to an endpoint of the service.
    ServiceProxy,
}

impl Connect {
    /// Whether it is HTTP to any path at the other end.
    pub fn is_proxy(self) -> bool {
        matches!(self, Connect::PodProxy | Connect::NodeProxy | Connect::ServiceProxy)
    }
}

impl Subresource {
    /// `status`: get, patch, update of everything under `status`.
    pub fn status() -> Self {
        Subresource::part("status", Part::default())
    }

    /// A subresource that changes a part of the stored object.
    pub fn part(name: &'static str, part: Part) -> Self {
        Subresource {
            name,
            gvk: None,
            verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
            behaviour: Behaviour::Part(part),
        }
    }

    /// `scale`, at the usual `spec.replicas`, `status.replicas`, `spec.selector`.
    pub fn scale() -> Self {
        Subresource::scale_at(ScalePaths {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: Some("spec.selector".into()),
        })
    }

    /// `scale` at other paths.
    pub fn scale_at(paths: ScalePaths) -> Self {
        Subresource {
            name: "scale",
            gvk: Some(Gvk::new("autoscaling", "v1", "Scale")),
            verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
            behaviour: Behaviour::Scale(paths),
        }
    }

    /// `binding` of pods.
    pub fn binding() -> Self {
        Subresource::action("binding", Gvk::new("", "v1", "Binding"), Action::Binding)
    }

    /// `eviction` of pods.
    pub fn eviction() -> Self {
        Subresource::action("eviction", Gvk::new("policy", "v1", "Eviction"), Action::Eviction)
    }

    /// `token` of service accounts.
    pub fn token() -> Self {
        let gvk = Gvk::new("authentication.k8s.io", "v1", "TokenRequest");
        Subresource::action("token", gvk, Action::Token)
    }

    fn action(name: &'static str, gvk: Gvk, action: Action) -> Self {
        Subresource {
            name,
            gvk: Some(gvk),
            verbs: vec![Verb::Create],
            behaviour: Behaviour::Create(action),
        }
    }

    /// A connection subresource, with the name, kind and verbs upstream's discovery shows.
    pub fn connect(connect: Connect) -> Self {
        use Verb::{Create, Delete, Get, Patch, Update};
        let all = vec![Create, Delete, Get, Patch, Update];
        let (name, kind, verbs) = match connect {
            Connect::Log => ("log", "Pod", vec![Get]),
            Connect::Exec => ("exec", "PodExecOptions", vec![Create, Get]),
            Connect::Attach => ("attach", "PodAttachOptions", vec![Create, Get]),
            Connect::PortForward => ("portforward", "PodPortForwardOptions", vec![Create, Get]),
            Connect::PodProxy => ("proxy", "PodProxyOptions", all),
            Connect::NodeProxy => ("proxy", "NodeProxyOptions", all),
            Connect::ServiceProxy => ("proxy", "ServiceProxyOptions", all),
        };
        Subresource {
            name,
            gvk: Some(Gvk::new("", "v1", kind)),
            verbs,
            behaviour: Behaviour::Connect(connect),
        }
    }

    /// Replaces the part's prepare function. Only for part subresources.
    pub fn prepare(mut self, f: impl Fn(&Context<'_>, &mut Value, &Value) + Send + Sync + 'static) -> Self {
        if let Behaviour::Part(part) = &mut self.behaviour {
            part.prepare = Some(Arc::new(f));
        }
        self
    }

    /// Replaces the part's validation, called with (new, old). Only for part subresources.
    pub fn validate(mut self, f: impl Fn(&Value, &Value) -> Vec<field::Error> + Send + Sync + 'static) -> Self {
        if let Behaviour::Part(part) = &mut self.behaviour {
            part.validate = Some(Arc::new(f));
        }
        self
    }

    /// Replaces the verbs, where upstream serves fewer (`namespaces/finalize`: update).
    pub fn verbs(mut self, verbs: &[Verb]) -> Self {
        self.verbs = verbs.to_vec();
        self
    }
}
