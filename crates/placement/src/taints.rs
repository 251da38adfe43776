//! Taints and tolerations (upstream component-helpers/scheduling/corev1).

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether `toleration` tolerates `taint` (upstream core/v1 `ToleratesTaint`).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let (mine, theirs) = (text(&toleration.value), text(&taint.value));
    let number = |text: &str| text.parse::<i64>().ok();
    match text(&toleration.operator).as_str() {
        "" | "Equal" => mine == theirs,
        "Exists" => true,
        "Gt" => number(&theirs)
            .zip(number(&mine))
            .is_some_and(|(taint, bound)| taint > bound),
        "Lt" => number(&theirs)
            .zip(number(&mine))
            .is_some_and(|(taint, bound)| taint < bound),
        _ => false,
    }
}

/// The first taint with one of `effects` that nothing tolerates.
pub fn first_untolerated<'t>(taints: &'t [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'t Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}
