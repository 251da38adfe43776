//! The kinds of the world: the server's own descriptors, and the typed shapes that controllers see.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use api::{Gvr, Value};
use apiserver::Kind;
use apiserver::kind::Verb;
use controllers::{UntypedKind, for_each_kind};
use k8s_openapi::api::core::v1::ConfigMap;
use serde::de::DeserializeOwned;

/// A resource, by its place in [`Registry::kinds`].
pub type Resource = usize;

/// Makes the typed shape of an object: an `Arc` of it.
pub type Parse = fn(&Value) -> Box<dyn Any + Send + Sync>;

/// All kinds.
pub struct Registry {
    /// Their descriptors.
    pub kinds: Vec<Kind>,
    /// Their resources.
    pub resources: Vec<Gvr>,
    by_resource: HashMap<Gvr, Resource>,
    parsers: Vec<Option<Parse>>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// The registry.
pub fn registry() -> &'static Registry {
    &REGISTRY
}

/// The resource of a typed kind.
pub fn resource_of<K: controllers::Object>() -> Resource {
    registry()
        .find(&controllers::gvr_of::<K>())
        .expect("controllers see known kinds")
}

/// The resource of a kind that is seen without a type.
pub fn resource_of_untyped(kind: UntypedKind) -> Resource {
    registry().find(&kind.gvr()).expect("controllers see known kinds")
}

fn parse<K: DeserializeOwned + Send + Sync + 'static>(value: &Value) -> Box<dyn Any + Send + Sync> {
    let typed: K = serde_json::from_value(value.clone()).expect("the server stores objects of their kind");
    Box::new(Arc::new(typed))
}

macro_rules! parsers {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        fn parsers() -> Vec<(Gvr, Parse)> {
            vec![
                $((
                    controllers::gvr_of::<k8s_openapi::api::$($path)::+>(),
                    parse::<k8s_openapi::api::$($path)::+> as Parse,
                ),)+
                (controllers::gvr_of::<ConfigMap>(), parse::<ConfigMap>),
            ]
        }
    };
}
for_each_kind!(parsers);

impl Registry {
    fn new() -> Self {
        let stored = |kind: &Kind| {
            kind.storage.gvk == kind.gvk
                && kind.plural != "events"
                && [Verb::List, Verb::Delete].iter().all(|verb| kind.verbs.contains(verb))
        };
        let kinds: Vec<Kind> = kinds::all().into_iter().filter(stored).collect();
        let resources: Vec<Gvr> = kinds
            .iter()
            .map(|kind| Gvr::new(&*kind.gvk.group, &*kind.gvk.version, &*kind.plural))
            .collect();
        let by_resource: HashMap<Gvr, Resource> = resources
            .iter()
            .enumerate()
            .map(|(index, gvr)| (gvr.clone(), index))
            .collect();
        let mut typed = vec![None; kinds.len()];
        for (gvr, parse) in parsers() {
            typed[by_resource[&gvr]] = Some(parse);
        }
        Self {
            kinds,
            resources,
            by_resource,
            parsers: typed,
        }
    }

    /// The resource of that name.
    pub fn find(&self, gvr: &Gvr) -> Option<Resource> {
        self.by_resource.get(gvr).copied()
    }

    /// The resource of that name and group, which the simulation itself needs.
    pub fn known(&self, group: &str, resource: &str) -> Resource {
        let found = self
            .resources
            .iter()
            .position(|gvr| gvr.group == group && gvr.resource == resource);
        found.unwrap_or_else(|| panic!("no resource {resource}"))
    }

    /// The resource of a kind, and whether its objects live in namespaces.
    pub fn of_kind(&self, group: &str, kind: &str) -> Option<(Resource, bool)> {
        let found = self
            .kinds
            .iter()
            .position(|known| known.gvk.group == group && known.gvk.kind == kind)?;
        Some((found, self.kinds[found].is_namespaced()))
    }

    /// The typed shape of an object, if controllers see its kind.
    pub fn typed(&self, resource: Resource, value: &Value) -> Option<Box<dyn Any + Send + Sync>> {
        self.parsers[resource].map(|parse| parse(value))
    }
}
