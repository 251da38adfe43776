//! Taints of devices.

use api::Value;

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
    /// `None`, `NoSchedule`, `NoExecute`, or one that nobody knows yet.
    pub effect: String,
    /// Since when, as written.
    pub time_added: String,
}

impl Taint {
    /// Reads a `DeviceTaint`.
    pub fn of(value: &Value) -> Taint {
        let text = |field: &str| value[field].as_str().unwrap_or("").to_owned();
        Taint {
            key: text("key"),
            value: text("value"),
            effect: text("effect"),
            time_added: text("timeAdded"),
        }
    }

    /// Whether it keeps requests with these tolerations from the device.
    pub(crate) fn prevents(&self, tolerations: &[Value]) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
            && !tolerations.iter().any(|toleration| tolerated(self, toleration))
    }
}

/// Whether a `DeviceToleration` tolerates a taint (`resourceclaim.ToleratesTaint`).
pub fn tolerated(taint: &Taint, toleration: &Value) -> bool {
    let text = |field: &str| toleration[field].as_str().unwrap_or("");
    let fits = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
    fits(text("effect"), &taint.effect)
        && fits(text("key"), &taint.key)
        && match text("operator") {
            "" | "Equal" => text("value") == taint.value,
            "Exists" => true,
            _ => false,
        }
}
