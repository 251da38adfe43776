//! Port-forward: connections that are made inside the pod's network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use nix::sched::{CloneFlags, setns};
use streams::port_forward::{self, Forward};
use tokio::sync::oneshot;

use super::exec::{refusal, with_empty_body};
use super::{Answer, Query, Refusal, Server, lookup};
use crate::worker;

/// `/portForward/{namespace}/{pod}[/{uid}]`.
pub(super) async fn answer(
    server: &Arc<Server>,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    mut request: Request<Incoming>,
) -> Answer {
    let query = Query::of(request.uri());
    let pod = lookup::pod(&server.ctx, namespace, name, uid)?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let sandboxes = worker::sandboxes(&server.ctx, uid).await.map_err(Refusal::internal)?;
    let ready = sandboxes
        .into_iter()
        .find(|sandbox| sandbox.state == runtime::PodSandboxState::Ready);
    let sandbox = ready.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("pod {name:?} is not running")))?;
    let netns = server
        .ctx
        .runtime()
        .sandbox_netns(&sandbox.id)
        .await
        .map_err(Refusal::internal)?;
    let given = query.all("port").into_iter().chain(query.all("ports"));
    let ports = given.flat_map(|list| list.split(',').map(String::from).collect::<Vec<_>>());
    let ports: Result<Vec<u16>, _> = ports.map(|port| port.parse()).collect();
    let ports = ports.map_err(|_| Refusal::bad("ports are numbers from 1 to 65535"))?;
    let (response, pending) = port_forward::accept(&mut request, ports).map_err(refusal)?;
    if let Some(pending) = pending {
        let (stop, tasks, pod) = (
            server.ctx.stop.clone(),
            server.tasks.clone(),
            podlife::spec::display(&pod),
        );
        server.tasks.spawn(async move {
            let work = async {
                let mut forwards = match pending.start().await {
                    Ok(forwards) => forwards,
                    Err(error) => return tracing::debug!(%error, "a port-forward did not start"),
                };
                while let Some(forward) = forwards.next().await {
                    tasks.spawn(carry(forward, netns.clone(), pod.clone()));
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }
    Ok(with_empty_body(response))
}

async fn carry(forward: Forward, netns: Option<PathBuf>, pod: String) {
    let port = forward.port;
    match connect(netns, port).await {
        Ok(socket) => {
            if let Err(error) = forward.copy(socket).await {
                tracing::debug!(%error, pod, port, "a forwarded connection broke");
            }
        }
        Err(error) => {
            let message = format!(
                "error forwarding port {port} to pod {pod}: failed to connect to localhost:{port} inside the pod: {error}"
            );
            forward.fail(&message).await;
        }
    }
}

/// Connects to the port on the loopback of the namespace. A thread of its own enters the namespace and ends there.
async fn connect(netns: Option<PathBuf>, port: u16) -> io::Result<tokio::net::TcpStream> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("port-forward".into()).spawn(move || {
        // Nobody waits any more if the client is gone.
        let _ = sender.send(enter_and_connect(netns.as_deref(), port));
    })?;
    let socket = receiver
        .await
        .map_err(|_| io::Error::other("the connecting thread broke off"))??;
    tokio::net::TcpStream::from_std(socket)
}

fn enter_and_connect(netns: Option<&Path>, port: u16) -> io::Result<TcpStream> {
    if let Some(path) = netns {
        let namespace = std::fs::File::open(path)?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    }
    let addresses: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    let first = TcpStream::connect(addresses[0]);
    let socket = match first {
        Ok(socket) => socket,
        Err(error) => TcpStream::connect(addresses[1]).map_err(|_| error)?,
    };
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
