//! What a controller decided, for the driver to execute.

use std::collections::BTreeMap;

use api::{Gvr, Value};
use jiff::SignedDuration;

use crate::object::{Object, gvr_of, to_value};

/// Actions in order, and a time to look again. Executing a plan and reconciling the result gives an
/// empty plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Executed in order; the first failure ends them.
    pub steps: Vec<Step>,
    /// Executed after the steps, whether they failed or not (status).
    pub last: Vec<Action>,
    /// Look again after this time, though nothing changes.
    pub requeue_after: Option<SignedDuration>,
    /// Kept by the driver in memory and given back with the next turn of this key; see
    /// [`crate::Turn::memo`].
    pub memo: Option<jiff::Timestamp>,
    /// More of the same, by whatever the controller calls it.
    pub notes: BTreeMap<String, jiff::Timestamp>,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One action.
    One(Box<Action>),
    /// Independent actions, at once; all are tried.
    All(Vec<Action>),
    /// Batches of 1, 2, 4, …; a failure in a batch skips the later ones (upstream's
    /// `slowStartBatch`: many creations that would all fail alike are not all tried).
    SlowStart(Vec<Action>),
}

/// One idempotent action.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// What is done.
    pub verb: Verb,
    /// What must hold on the server, checked by live reads just before; otherwise the action is
    /// skipped without being a failure.
    pub confirm: Vec<Confirm>,
    /// Which events tell about it.
    pub told: Option<Told>,
}

/// An object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its resource.
    pub resource: Gvr,
    /// Its namespace; empty for cluster-scoped resources.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// It must have this UID.
    pub uid: Option<String>,
    /// It must have this resourceVersion.
    pub resource_version: Option<String>,
}

/// What happens to an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without the owner.
    Orphan,
    /// They go later.
    Background,
    /// They go first.
    Foreground,
}

/// What an action does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Creates an object.
    Create {
        /// Its resource.
        resource: Gvr,
        /// Its namespace.
        namespace: String,
        /// The object.
        object: Value,
        /// An object of that name is as good.
        if_absent: bool,
    },
    /// Applies a JSON merge patch; the target's UID and resourceVersion are its preconditions.
    Patch {
        /// The object.
        target: Target,
        /// `status`, or empty for the object itself.
        subresource: &'static str,
        /// The patch.
        body: Value,
    },
    /// Replaces an object that was seen whole, if it still is as it was seen.
    Replace {
        /// The object.
        target: Target,
        /// `status`, or empty for the object itself.
        subresource: &'static str,
        /// All of it.
        object: Value,
    },
    /// The same with a part that needs a key, which controllers do not have.
    Mint {
        /// The object.
        target: Target,
        /// `status`, or empty for the object itself.
        subresource: &'static str,
        /// All of it but that part.
        object: Value,
        /// JSON pointer to that part.
        pointer: &'static str,
        /// The part.
        mint: Mint,
    },
    /// Deletes an object; one that is not there is as good.
    Delete {
        /// The object.
        target: Target,
        /// Overrides its grace period.
        grace_period_seconds: Option<i64>,
        /// What happens to its dependents.
        propagation: Option<Propagation>,
    },
    /// Deletes all objects of a resource in a namespace.
    DeleteAll {
        /// The resource.
        resource: Gvr,
        /// The namespace.
        namespace: String,
    },
    /// Removes the `kubernetes` finalizer from a namespace's spec, after live lists have shown that
    /// it is empty of all these resources.
    FinalizeNamespace {
        /// The namespace.
        target: Target,
        /// Resources that must have no object left in it.
        empty_of: Vec<Gvr>,
        /// The finalizers that stay.
        finalizers: Vec<String>,
    },
    /// Writes every object of a resource as it is, so that it is stored as objects are stored now.
    Rewrite {
        /// The resource.
        resource: Gvr,
    },
    /// Makes the folder of a volume on this node's disk, or gives the one that is there another size.
    MakeVolume {
        /// The volume.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Removes the folder of a volume and all that is in it; one that is not there is as good.
    RemoveVolume {
        /// The volume.
        name: String,
    },
    /// Nothing but telling.
    Tell,
}

/// What is made with the cluster's keys. Both are base64 of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mint {
    /// A certificate (PEM) of the cluster's authority.
    Certificate {
        /// The request (PKCS#10, DER).
        request: Vec<u8>,
        /// What it is for, in the words of the certificates API.
        usages: Vec<String>,
        /// How long it is good.
        lifetime: jiff::SignedDuration,
    },
    /// A token signed with the key of service accounts.
    Token {
        /// What it says.
        claims: Value,
    },
}

/// A live check before an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// There is no object of this resource, namespace and name (with this UID, if one is given).
    Absent(Target),
    /// The object is there with this UID, and its deletion has not begun.
    Alive(Target),
    /// A subject access review (its `spec` is given) is answered so.
    Review {
        /// Who, and what.
        spec: Value,
        /// Whether that is allowed.
        allowed: bool,
    },
}

/// The object that an event is about (core/v1 ObjectReference).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// apiVersion.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
}

/// Reason and message of an event. In the message `{name}` stands for the name of the action's
/// object and `{error}` for what went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// CamelCase reason.
    pub reason: &'static str,
    /// Message for people.
    pub message: String,
}

/// The events of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What they are about.
    pub about: Reference,
    /// If it worked; `Normal` unless `warning`.
    pub success: Option<Text>,
    /// If it failed; a `Warning`.
    pub failure: Option<Text>,
    /// The success is a `Warning`, too.
    pub warning: bool,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Whether executing it does nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.last.is_empty()
    }

    /// Adds a step of one action.
    pub fn act(&mut self, action: Action) {
        self.steps.push(Step::One(Box::new(action)));
    }

    /// Adds an action for the end.
    pub fn finally(&mut self, action: Action) {
        self.last.push(action);
    }

    /// Looks again after this time, or earlier if that was said already.
    pub fn look_again(&mut self, after: SignedDuration) {
        let after = after.max(SignedDuration::from_millis(1));
        self.requeue_after = Some(self.requeue_after.map_or(after, |known| known.min(after)));
    }

    /// All actions, in order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        let steps = self.steps.iter().flat_map(|step| match step {
            Step::One(action) => std::slice::from_ref(&**action),
            Step::All(actions) | Step::SlowStart(actions) => actions.as_slice(),
        });
        steps.chain(&self.last)
    }
}

impl Target {
    /// An object by what a cache knows of it, guarded by its UID.
    pub fn of<K: Object>(object: &K) -> Self {
        let metadata = object.metadata();
        Self {
            resource: gvr_of::<K>(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone(),
            resource_version: None,
        }
    }

    /// The same, guarded by the version that was seen.
    pub fn version_of<K: Object>(object: &K) -> Self {
        Self {
            resource_version: object.metadata().resource_version.clone(),
            ..Self::of(object)
        }
    }
}

impl Action {
    /// An action of which nothing is told.
    pub fn new(verb: Verb) -> Self {
        Self {
            verb,
            confirm: Vec::new(),
            told: None,
        }
    }

    /// Creates a typed object.
    pub fn create<K: Object>(object: &K) -> Self {
        Self::new(Verb::Create {
            resource: gvr_of::<K>(),
            namespace: object.metadata().namespace.clone().unwrap_or_default(),
            object: to_value(object),
            if_absent: false,
        })
    }

    /// Creates a typed object, unless there is one of that name.
    pub fn create_if_absent<K: Object>(object: &K) -> Self {
        let mut action = Self::create(object);
        if let Verb::Create { if_absent, .. } = &mut action.verb {
            *if_absent = true;
        }
        action
    }

    /// Patches an object, if it still has the UID that was seen.
    pub fn patch<K: Object>(object: &K, body: Value) -> Self {
        Self::new(Verb::Patch {
            target: Target::of(object),
            subresource: "",
            body,
        })
    }

    /// Patches an object, if it still is as it was seen.
    pub fn patch_version<K: Object>(object: &K, body: Value) -> Self {
        Self::new(Verb::Patch {
            target: Target::version_of(object),
            subresource: "",
            body,
        })
    }

    /// Replaces an object by a changed copy of it, if it still is as it was seen.
    pub fn replace<K: Object>(object: &K) -> Self {
        Self::new(Verb::Replace {
            target: Target::version_of(object),
            subresource: "",
            object: to_value(object),
        })
    }

    /// Replaces the status of an object that was seen whole, if it still is as it was seen.
    pub fn replace_status<K: Object>(object: &K, status: Value) -> Self {
        let mut whole = to_value(object);
        whole["status"] = status;
        Self::new(Verb::Replace {
            target: Target::version_of(object),
            subresource: "status",
            object: whole,
        })
    }

    /// Patches an object's status, if it still has the UID that was seen.
    pub fn patch_status<K: Object>(object: &K, body: Value) -> Self {
        Self::new(Verb::Patch {
            target: Target::of(object),
            subresource: "status",
            body,
        })
    }

    /// Patches an object's status, if it still is as it was seen.
    pub fn patch_status_version<K: Object>(object: &K, body: Value) -> Self {
        Self::new(Verb::Patch {
            target: Target::version_of(object),
            subresource: "status",
            body,
        })
    }

    /// Deletes an object, if it still has the UID that was seen.
    pub fn delete<K: Object>(object: &K) -> Self {
        let target = Target::of(object);
        Self::new(Verb::Delete {
            target,
            grace_period_seconds: None,
            propagation: None,
        })
    }

    /// An event alone.
    pub fn event(about: Reference, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Verb::Tell).telling(about, reason, message)
    }

    /// Tells of success.
    pub fn telling(mut self, about: Reference, reason: &'static str, message: impl Into<String>) -> Self {
        let failure = self.told.take().and_then(|told| told.failure);
        let success = Some(Text {
            reason,
            message: message.into(),
        });
        self.told = Some(Told {
            about,
            success,
            failure,
            warning: false,
        });
        self
    }

    /// Tells of failure as well.
    pub fn or_telling(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        if let Some(told) = &mut self.told {
            told.failure = Some(Text {
                reason,
                message: message.into(),
            });
        }
        self
    }

    /// Tells of failure.
    pub fn telling_failure(mut self, about: Reference, reason: &'static str, message: impl Into<String>) -> Self {
        let failure = Some(Text {
            reason,
            message: message.into(),
        });
        self.told = Some(Told {
            about,
            success: None,
            failure,
            warning: false,
        });
        self
    }

    /// Its success is nothing to be glad of.
    pub fn warning(mut self) -> Self {
        if let Some(told) = &mut self.told {
            told.warning = true;
        }
        self
    }

    /// Done only if this holds.
    pub fn confirmed(mut self, confirm: Confirm) -> Self {
        self.confirm.push(confirm);
        self
    }
}

impl Reference {
    /// A reference to an object.
    pub fn to<K: Object>(object: &K) -> Self {
        let metadata = object.metadata();
        Self {
            api_version: K::API_VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}
