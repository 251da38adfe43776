//! What every request shares.

use std::sync::Arc;

use api::Status;
use arc_swap::ArcSwap;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::Pipeline;
use crate::allocate::Pools;
use crate::call::Call;
use crate::resource::{Registry, Resource};

/// The server's parts.
pub(crate) struct State {
    pub store: Store,
    pub registry: ArcSwap<Registry>,
    pub pools: Pools,
    pub admission: Pipeline,
    /// Cancelled when watches have to end.
    pub shutdown: CancellationToken,
}

impl State {
    /// The resource of that group, version and plural.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.registry.load().get(group, version, plural).cloned()
    }

    /// Some version of a group's resource.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.registry.load().any_version(group, plural).cloned()
    }

    /// Whether the user may create what an update of an absent object would create.
    ///
    /// # Errors
    /// 403 if not.
    pub fn authorize_create(&self, _call: &Call, _resource: &Resource) -> Result<(), Status> {
        Ok(())
    }
}
