//! The same requests to two API servers: `docs/differences.md`.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use differential::accepted::Accepted;
use differential::run::Outcomes;
use differential::{Answer, Request, expected, run, script, seeds};
use http_body_util::BodyExt;

/// What is asked for.
#[derive(Default)]
struct Options {
    peer: Option<String>,
    server: Option<String>,
    record: bool,
    only: Option<String>,
}

/// Runs the task.
pub fn run(args: &[String]) -> Result<()> {
    if let [task, file] = args
        && task == "fields"
    {
        return fields(file);
    }
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--peer" => options.peer = args.next().cloned(),
            "--server" => options.server = args.next().cloned(),
            "--only" => options.only = args.next().cloned(),
            "--record" => options.record = true,
            other => bail!("diff does not know {other}"),
        }
    }
    if options.peer.is_none() && options.server.is_none() {
        bail!("name a server: --peer KUBECONFIG records upstream's answers, --server KUBECONFIG is compared with them");
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(compare(&options))
}

fn fields(file: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    for line in differential::absent_fields(schema::builtin(), &serde_json::from_str(&text)?) {
        println!("{line}");
    }
    Ok(())
}

async fn compare(options: &Options) -> Result<()> {
    let peer = match &options.peer {
        Some(kubeconfig) => Some(Remote::new(kubeconfig).await?),
        None => None,
    };
    let server = match &options.server {
        Some(kubeconfig) => Some(Remote::new(kubeconfig).await?),
        None => None,
    };
    let accepted = Accepted::default();
    let (mut cases, mut different) = (0, 0);
    let wanted = |name: &str| {
        options
            .only
            .as_deref()
            .is_none_or(|only| only.split(',').any(|only| name.starts_with(only)))
    };
    let mut entries: Vec<Entry> = seeds::all()?.into_iter().map(Entry::Seed).collect();
    entries.extend(script::all()?.into_iter().map(Entry::Script));
    for entry in entries.iter().filter(|entry| wanted(entry.name())) {
        let name = entry.name();
        let theirs = match &peer {
            Some(peer) => match entry.ask(peer).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    println!("{name}: {error}");
                    continue;
                }
            },
            None => expected::read(name).with_context(|| format!("expectations of {name}"))?,
        };
        if options.record {
            expected::write(name, &theirs).with_context(|| format!("write the expectations of {name}"))?;
        }
        cases += theirs.len();
        let Some(server) = &server else { continue };
        let mine = entry.ask(server).await?;
        for (case, want) in &theirs {
            let Some(have) = mine.get(case) else { continue };
            let lines = accepted.remaining(name, case, want.differences(have));
            if !lines.is_empty() {
                different += 1;
                println!("{name} | {case}\n    {}", lines.join("\n    "));
            }
        }
    }
    println!("{cases} cases, {different} differences");
    Ok(())
}

enum Entry {
    Seed(seeds::Seed),
    Script(script::Script),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Seed(seed) => &seed.seed,
            Self::Script(script) => &script.script,
        }
    }

    async fn ask(&self, server: &Remote) -> Result<Outcomes, run::RunError> {
        match self {
            Self::Seed(seed) => run::seed(server, seed, run::Part::Everything).await,
            Self::Script(script) => script::run(server, script).await,
        }
    }
}

/// A server somewhere.
struct Remote {
    client: Client,
    /// What must be said in other words to it, and taken back from what it says.
    words: Vec<(String, String)>,
}

impl Remote {
    async fn new(kubeconfig: &str) -> Result<Self> {
        let client = Client::from_kubeconfig(kubeconfig).with_context(|| format!("use {kubeconfig}"))?;
        let groups: serde_json::Value = client.get_json("/apis").await.context("ask for the groups")?;
        let group = "flowcontrol.apiserver.k8s.io";
        let mut listed = groups["groups"].as_array().into_iter().flatten();
        let version = listed
            .find(|listed| listed["name"] == group)
            .and_then(|listed| listed["preferredVersion"]["version"].as_str())
            .unwrap_or("v1");
        let words = match version {
            "v1" => Vec::new(),
            beta => vec![
                (format!("{group}/v1"), format!("{group}/{beta}")),
                (
                    "version \"v1\" cannot be handled as a FlowSchema".to_owned(),
                    format!("version \"{beta}\" cannot be handled as a FlowSchema"),
                ),
                (
                    "version \"v1\" cannot be handled as a PriorityLevelConfiguration".to_owned(),
                    format!("version \"{beta}\" cannot be handled as a PriorityLevelConfiguration"),
                ),
            ],
        };
        Ok(Self { client, words })
    }
}

impl differential::Server for Remote {
    async fn call(&self, request: Request) -> Result<Answer, String> {
        let say = |text: &str| {
            self.words
                .iter()
                .fold(text.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
        };
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(say(&request.path));
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let built = builder
            .body(Bytes::from(say(&request.body)))
            .map_err(|e| e.to_string())?;
        let response = self.client.send(built).await.map_err(|e| format!("{e:?}"))?;
        let code = response.status().as_u16();
        let mut headers = Vec::new();
        for (name, value) in response.headers() {
            headers.push((
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ));
        }
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        let mut body = body.to_vec();
        if !self.words.is_empty() {
            let text = String::from_utf8_lossy(&body).into_owned();
            let heard = self
                .words
                .iter()
                .fold(text, |text, (ours, theirs)| text.replace(theirs, ours));
            body = heard.into_bytes();
        }
        Ok(Answer { code, headers, body })
    }
}
