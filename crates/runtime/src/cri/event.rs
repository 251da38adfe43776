use tokio::sync::broadcast;

/// Something changed. Carries ids only: the receiver looks at the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container was created.
    ContainerCreated {
        /// Its sandbox.
        sandbox_id: String,
        /// Its id.
        container_id: String,
    },
    /// A container's process runs.
    ContainerStarted {
        /// Its sandbox.
        sandbox_id: String,
        /// Its id.
        container_id: String,
    },
    /// A container ended; its status has the exit code.
    ContainerExited {
        /// Its sandbox.
        sandbox_id: String,
        /// Its id.
        container_id: String,
    },
    /// A process of the container was killed for want of memory. The container may run on.
    ContainerOom {
        /// Its sandbox.
        sandbox_id: String,
        /// Its id.
        container_id: String,
    },
    /// A container was removed.
    ContainerRemoved {
        /// Its sandbox.
        sandbox_id: String,
        /// Its id.
        container_id: String,
    },
    /// A sandbox became ready.
    SandboxReady {
        /// Its id.
        sandbox_id: String,
    },
    /// A sandbox is no longer ready: it was stopped, or its shim died.
    SandboxStopped {
        /// Its id.
        sandbox_id: String,
    },
    /// A sandbox was removed.
    SandboxRemoved {
        /// Its id.
        sandbox_id: String,
    },
    /// The receiver was too slow and events were lost: look at everything.
    Resync,
}

impl RuntimeEvent {
    /// The sandbox it is about.
    pub fn sandbox_id(&self) -> Option<&str> {
        match self {
            RuntimeEvent::ContainerCreated { sandbox_id, .. }
            | RuntimeEvent::ContainerStarted { sandbox_id, .. }
            | RuntimeEvent::ContainerExited { sandbox_id, .. }
            | RuntimeEvent::ContainerOom { sandbox_id, .. }
            | RuntimeEvent::ContainerRemoved { sandbox_id, .. }
            | RuntimeEvent::SandboxReady { sandbox_id }
            | RuntimeEvent::SandboxStopped { sandbox_id }
            | RuntimeEvent::SandboxRemoved { sandbox_id } => Some(sandbox_id),
            RuntimeEvent::Resync => None,
        }
    }
}

/// A subscription to [`RuntimeEvent`]s.
pub struct EventStream {
    receiver: broadcast::Receiver<RuntimeEvent>,
}

impl EventStream {
    /// Wraps a receiver of the runtime's channel.
    pub fn new(receiver: broadcast::Receiver<RuntimeEvent>) -> EventStream {
        EventStream { receiver }
    }

    /// The next event; `None` when the runtime is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<RuntimeEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(RuntimeEvent::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
