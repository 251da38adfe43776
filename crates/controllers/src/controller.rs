//! What a controller is to the driver.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{Key, Plan, Turn, Untyped, UntypedKind, World};

/// The keys to reconcile after a change from `old` to `new` (one of which may be none).
pub type Keys<K> = fn(world: &dyn World, old: Option<&K>, new: Option<&K>) -> Vec<Key>;

macro_rules! trigger {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        /// Changes of a kind that concern a controller.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs, reason = "the names are the kinds")]
        pub enum Trigger {
            $($kind(Keys<k8s_openapi::api::$($path)::+>),)+
            RootCaMap(Keys<ConfigMap>),
            Untyped(UntypedKind, Keys<Untyped>),
        }
    };
}
crate::for_each_kind!(trigger);

/// A controller: which changes concern it, and what it does about a key.
#[derive(Clone, Copy, Debug)]
pub struct Controller {
    /// Its name; also the source of its events.
    pub name: &'static str,
    /// The service account in kube-system that it acts as; the controller manager itself, if empty.
    pub account: &'static str,
    /// What concerns it.
    pub triggers: &'static [Trigger],
    /// Decides. Pure.
    pub reconcile: fn(world: &dyn World, key: &Key, turn: &Turn) -> Plan,
}

/// The object's own key; the usual trigger.
pub fn own_key<K: crate::Object>(_: &dyn World, old: Option<&K>, new: Option<&K>) -> Vec<Key> {
    new.or(old).map(Key::of).into_iter().collect()
}
