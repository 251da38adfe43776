//! How a zone learns of objects.

use std::sync::{Arc, RwLock};

use client::{Cache, Change, Changes};
use dnszone::Zone;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A change that the zone follows. The order between different objects does not matter.
#[derive(Debug, Clone)]
pub enum ZoneEvent {
    /// A service is as given.
    Service(Arc<Service>),
    /// The service with this namespace and name is gone.
    ServiceGone(String, String),
    /// An endpoint slice is as given.
    Slice(Arc<EndpointSlice>),
    /// The slice with this namespace and name is gone.
    SliceGone(String, String),
    /// A namespace exists.
    Namespace(String),
    /// A namespace is gone.
    NamespaceGone(String),
    /// Everything there was at the start has been told: the zone may answer "no such name".
    Synced,
}

/// Where a server gets its events; it stops following when the sender is dropped.
pub type ZoneSource = mpsc::Receiver<ZoneEvent>;

const QUEUED_EVENTS: usize = 256;

/// Feeds a server from caches, until `stop` or until the server is gone.
pub fn follow(
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    namespaces: Cache<Namespace>,
    stop: CancellationToken,
) -> ZoneSource {
    let (events, source) = mpsc::channel(QUEUED_EVENTS);
    tokio::spawn(async move {
        let feed = Feed {
            events,
            services,
            slices,
            namespaces,
        };
        // Ends with an error when nobody listens any more.
        let _ = stop.run_until_cancelled(feed.run()).await;
    });
    source
}

struct Feed {
    events: mpsc::Sender<ZoneEvent>,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    namespaces: Cache<Namespace>,
}

/// The server is gone.
struct Unheard;

impl Feed {
    async fn tell(&self, event: ZoneEvent) -> Result<(), Unheard> {
        self.events.send(event).await.map_err(|_| Unheard)
    }

    async fn run(self) -> Result<(), Unheard> {
        self.services.synced().await;
        self.slices.synced().await;
        self.namespaces.synced().await;
        let mut services = self.services.subscribe();
        let mut slices = self.slices.subscribe();
        let mut namespaces = self.namespaces.subscribe();
        self.drain(&mut services, service_event).await?;
        self.drain(&mut slices, slice_event).await?;
        self.drain(&mut namespaces, namespace_event).await?;
        self.tell(ZoneEvent::Synced).await?;
        loop {
            let event = tokio::select! {
                change = services.next() => service_event(change),
                change = slices.next() => slice_event(change),
                change = namespaces.next() => namespace_event(change),
            };
            self.tell(event).await?;
        }
    }

    async fn drain<K: client::Object>(
        &self,
        changes: &mut Changes<K>,
        event: fn(Change<K>) -> ZoneEvent,
    ) -> Result<(), Unheard> {
        while let Some(change) = changes.try_next() {
            self.tell(event(change)).await?;
        }
        Ok(())
    }
}

fn service_event(change: Change<Service>) -> ZoneEvent {
    let key = change.key();
    match change.new {
        Some(service) => ZoneEvent::Service(service),
        None => ZoneEvent::ServiceGone(key.namespace.to_string(), key.name.to_string()),
    }
}

fn slice_event(change: Change<EndpointSlice>) -> ZoneEvent {
    let key = change.key();
    match change.new {
        Some(slice) => ZoneEvent::Slice(slice),
        None => ZoneEvent::SliceGone(key.namespace.to_string(), key.name.to_string()),
    }
}

fn namespace_event(change: Change<Namespace>) -> ZoneEvent {
    let name = change.key().name.to_string();
    match change.new {
        Some(_) => ZoneEvent::Namespace(name),
        None => ZoneEvent::NamespaceGone(name),
    }
}

/// The zone as the server's tasks share it.
///
/// A std lock: readers look one name up, the only writer applies one object; both take
/// microseconds and neither awaits.
pub(crate) type SharedZone = Arc<RwLock<Zone>>;

/// Applies events to the zone until there are no more or `stop`; tells when it is filled.
pub(crate) async fn keep(
    zone: SharedZone,
    mut source: ZoneSource,
    synced: watch::Sender<bool>,
    stop: CancellationToken,
) {
    while let Some(Some(event)) = stop.run_until_cancelled(source.recv()).await {
        if matches!(event, ZoneEvent::Synced) {
            synced.send_replace(true);
            continue;
        }
        let mut zone = zone.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &event {
            ZoneEvent::Service(service) => zone.upsert_service(service),
            ZoneEvent::ServiceGone(namespace, name) => zone.remove_service(namespace, name),
            ZoneEvent::Slice(slice) => zone.upsert_slice(slice),
            ZoneEvent::SliceGone(namespace, name) => zone.remove_slice(namespace, name),
            ZoneEvent::Namespace(name) => zone.add_namespace(name),
            ZoneEvent::NamespaceGone(name) => zone.remove_namespace(name),
            ZoneEvent::Synced => {}
        }
    }
}
