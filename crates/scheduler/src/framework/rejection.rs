//! Why a node, or every node, cannot take a pod.

use std::borrow::Cow;
use std::sync::Arc;

use crate::pod::PodInfo;

/// How final a rejection is (upstream `fwk.Code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Evicting pods may help.
    Unschedulable,
    /// Evicting pods does not help.
    Unresolvable,
    /// The plugin could not tell.
    Error,
}

impl Code {
    /// Upstream's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Code::Unschedulable => "Unschedulable",
            Code::Unresolvable => "UnschedulableAndUnresolvable",
            Code::Error => "Error",
        }
    }
}

/// What to tell people, in upstream's words. Small and cheap, for there may be one a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reasons {
    /// One that is always the same.
    One(&'static str),
    /// Shortages: bit 0 pods, 1 CPU, 2 memory, 3 ephemeral storage, 4 and on the pod's scalar requests.
    Short(u64),
    /// Any others.
    Texts(Arc<[String]>),
}

/// Why a node cannot take a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// What to tell people.
    pub reasons: Reasons,
    /// How final it is.
    pub code: Code,
}

impl Rejection {
    /// A rejection that preemption might cure.
    #[must_use]
    pub fn unschedulable(reason: &'static str) -> Rejection {
        Rejection {
            reasons: Reasons::One(reason),
            code: Code::Unschedulable,
        }
    }

    /// A rejection that evicting pods does not cure.
    #[must_use]
    pub fn unresolvable(reason: &'static str) -> Rejection {
        Rejection {
            reasons: Reasons::One(reason),
            code: Code::Unresolvable,
        }
    }

    /// A rejection in words made for the case.
    #[must_use]
    pub fn with(code: Code, reasons: Vec<String>) -> Rejection {
        Rejection {
            reasons: Reasons::Texts(reasons.into()),
            code,
        }
    }

    /// A failure of the plugin.
    #[must_use]
    pub fn error(message: String) -> Rejection {
        Rejection::with(Code::Error, vec![message])
    }

    /// A failure of a plugin, with the plugin's name.
    #[must_use]
    pub(crate) fn while_running(self, point: &str, plugin: &str, pod: &PodInfo) -> Rejection {
        match self.code {
            Code::Error => {
                let text = self.texts(pod).join(", ");
                Rejection::error(format!("running {point} plugin {plugin:?}: {text}"))
            }
            _ => self,
        }
    }

    /// Whether evicting pods may help.
    #[must_use]
    pub fn resolvable(&self) -> bool {
        self.code == Code::Unschedulable
    }

    /// The reasons in words.
    #[must_use]
    pub fn texts(&self, pod: &PodInfo) -> Vec<Cow<'static, str>> {
        match &self.reasons {
            Reasons::One(reason) => vec![Cow::Borrowed(*reason)],
            Reasons::Texts(texts) => texts.iter().map(|text| Cow::Owned(text.clone())).collect(),
            Reasons::Short(bits) => short_texts(*bits, pod),
        }
    }
}

fn short_texts(bits: u64, pod: &PodInfo) -> Vec<Cow<'static, str>> {
    let fixed = [
        "Too many pods",
        "Insufficient cpu",
        "Insufficient memory",
        "Insufficient ephemeral-storage",
    ];
    let fixed = fixed.into_iter().map(Cow::Borrowed);
    let scalar = pod
        .shape
        .requests
        .scalar
        .iter()
        .map(|(name, _)| Cow::Owned(format!("Insufficient {name}")));
    let all = fixed.chain(scalar).take(64).enumerate();
    all.filter(|(bit, _)| bits & (1 << bit) != 0)
        .map(|(_, text)| text)
        .collect()
}
