//! `exec` and `attach`: over WebSocket, protocol v5.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bytes::Bytes;
use streams::Outcome;
use streams::remote_command::{CLIENT_PROTOCOLS, Client};
use tokio::io::AsyncWriteExt;

use crate::Session;
use crate::get::escape;
use crate::logs::{default_container, pod_of};
use crate::terminal::Terminal;

/// Options of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    attach: AttachOptions,
    /// The command and its arguments, after --
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Options of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct AttachOptions {
    /// POD or TYPE/NAME
    pod: String,
    /// Container
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short = 't', long)]
    tty: bool,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let command = options
        .command
        .iter()
        .map(|word| format!("command={}", escape(word)))
        .collect();
    stream(session, &options.attach, "exec", command).await
}

pub(crate) async fn attach(session: &Session, options: &AttachOptions) -> Result<ExitCode> {
    stream(session, options, "attach", Vec::new()).await
}

async fn stream(
    session: &Session,
    options: &AttachOptions,
    subresource: &str,
    mut query: Vec<String>,
) -> Result<ExitCode> {
    let pod = pod_of(session, &options.pod).await?;
    let container = match &options.container {
        Some(container) => container.clone(),
        None => default_container(&pod)?,
    };
    let terminal = if options.tty { Terminal::open()? } else { None };
    let tty = terminal.is_some();
    query.push(format!("container={}", escape(&container)));
    query.push("stdout=true".into());
    for (flag, set) in [("stdin", options.stdin), ("stderr", !tty), ("tty", tty)] {
        if set {
            query.push(format!("{flag}=true"));
        }
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/{subresource}?{}",
        session.namespace,
        escape(name),
        query.join("&")
    );
    let (socket, protocol) = upgrade(session, &path, CLIENT_PROTOCOLS).await?;
    let mut remote = Client::new(socket, &protocol);
    if let Some(terminal) = &terminal {
        terminal.follow_size(remote.resizer())?;
    }
    if options.stdin {
        let stdin = remote.stdin.clone();
        tokio::spawn(async move { stdin.send_all(&mut tokio::io::stdin()).await });
    }
    let outcome = copy(&mut remote).await?;
    drop(terminal);
    let code = match outcome {
        Outcome::Success => ExitCode::SUCCESS,
        Outcome::ExitCode(code) => {
            eprintln!("command terminated with exit code {code}");
            ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
        }
        Outcome::Failed(message) => bail!("{message}"),
    };
    // A read of standard input may still be pending in a thread that nothing else ends.
    remote.close().await;
    Ok(code)
}

/// Copies output until the outcome has come and the output ended.
async fn copy(remote: &mut Client) -> Result<Outcome> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut outcome = None;
    let (out, err, error) = remote.streams();
    let (mut out_open, mut err_open) = (true, true);
    while outcome.is_none() {
        tokio::select! {
            biased;
            chunk = out.recv(), if out_open => match chunk {
                Some(chunk) => { stdout.write_all(&chunk).await?; stdout.flush().await?; }
                None => out_open = false,
            },
            chunk = err.recv(), if err_open => match chunk {
                Some(chunk) => { stderr.write_all(&chunk).await?; stderr.flush().await?; }
                None => err_open = false,
            },
            report = error.recv() => outcome = Some(match report {
                Some(report) => Outcome::parse(&report),
                None => Outcome::Failed("connection closed before the command ended".into()),
            }),
        }
    }
    Ok(outcome.unwrap_or(Outcome::Success))
}

/// Upgrades a request to WebSocket; answers with the chosen subprotocol.
pub(crate) async fn upgrade(session: &Session, path: &str, protocols: &[&str]) -> Result<(client::Upgraded, String)> {
    let mut request = http::Request::get(path).body(Bytes::new())?;
    request
        .headers_mut()
        .extend(streams::websocket_request_headers(protocols));
    let (response, socket) = session.client.upgrade(request).await?;
    let protocol = response.headers().get(http::header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    Ok((socket, protocol))
}
