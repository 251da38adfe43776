//! `port-forward`: local ports to a pod's, over one tunnel.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use streams::port_forward::{CLIENT_PROTOCOLS, Client};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::Session;
use crate::exec::upgrade;
use crate::get::escape;
use crate::logs::pod_of;

/// Options of `port-forward`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// POD or TYPE/NAME
    pod: String,
    /// [LOCAL:]REMOTE; LOCAL 0 or empty picks a free port
    #[arg(required = true)]
    ports: Vec<String>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let pod = pod_of(session, &options.pod).await?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/portforward",
        session.namespace,
        escape(name)
    );
    let (socket, _) = upgrade(session, &path, CLIENT_PROTOCOLS).await?;
    // Opening a stream is one short message each; the lock is never held while bytes are copied.
    let client = Arc::new(Mutex::new(Client::new(socket)));
    let mut listeners = JoinSet::new();
    for pair in &options.ports {
        let (local, remote) = pair.split_once(':').unwrap_or((pair, pair));
        let remote: u16 = remote
            .parse()
            .with_context(|| format!("error parsing remote port '{remote}'"))?;
        let local: u16 = if local.is_empty() {
            0
        } else {
            local
                .parse()
                .with_context(|| format!("error parsing local port '{local}'"))?
        };
        let listener = TcpListener::bind((options.address.as_str(), local))
            .await
            .with_context(|| format!("unable to listen on port {local}"))?;
        println!("Forwarding from {} -> {remote}", listener.local_addr()?);
        listeners.spawn(listen(listener, remote, client.clone()));
    }
    while let Some(result) = listeners.join_next().await {
        result??;
    }
    Ok(ExitCode::SUCCESS)
}

async fn listen(listener: TcpListener, remote: u16, client: Arc<Mutex<Client>>) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        println!("Handling connection for {}", listener.local_addr()?.port());
        tokio::spawn(forward(socket, remote, client.clone()));
    }
}

async fn forward(socket: TcpStream, remote: u16, client: Arc<Mutex<Client>>) {
    let opened = client.lock().await.open(remote).await;
    let mut forward = match opened {
        Ok(forward) => forward,
        Err(error) => {
            eprintln!("error: lost connection to pod: {error}");
            std::process::exit(1);
        }
    };
    let mut errors = forward.take_error();
    let copy = tokio::spawn(forward.copy(socket));
    if let Some(message) = errors.message().await {
        eprintln!("error: an error occurred forwarding to port {remote}: {message}");
        copy.abort();
        return;
    }
    let _ = copy.await;
}
