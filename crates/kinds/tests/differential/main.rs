//! Upstream's recorded answers, and the server's own: see crates/differential and docs/differences.md.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use apiserver::{ApiServer, Config, Peer, Pool, ServiceAccountConfig, UserInfo, Values, body};
use differential::accepted::{self, Accepted};
use differential::run::{Outcomes, Part, RunError};
use differential::script::Script;
use differential::seeds::Seed;
use differential::{Answer, Request, Server, expected, run, script, seeds};
use http_body_util::BodyExt;
use kinds::bootstrap;

/// What follows from seeds is so much that all of it would take minutes.
const FEW: u64 = 3;
/// As many as there are cores: more would only wait.
const SIDE_BY_SIDE: usize = 2;

struct InProcess(ApiServer);

impl Server for InProcess {
    async fn call(&self, request: Request) -> Result<Answer, String> {
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(&request.path);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(body::full(request.body)).map_err(|e| e.to_string())?;
        // As upstream's was when it was recorded.
        let user = UserInfo {
            uid: "admin".to_owned(),
            ..UserInfo::new("admin", &["system:masters"])
        };
        let admin = Peer {
            user: Some(user),
            ..Peer::default()
        };
        let response = self.0.handle(request, admin).await;
        let code = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
        Ok(Answer {
            code,
            headers,
            body: body.to_bytes().to_vec(),
        })
    }
}

fn service_accounts() -> ServiceAccountConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    ServiceAccountConfig {
        issuer: "https://kubernetes.default.svc".to_owned(),
        audiences: vec!["https://kubernetes.default.svc".to_owned()],
        signing_key_pem: key.serialize_pem(),
        public_keys_pem: vec![key.public_key_pem()],
        jwks_uri: "https://127.0.0.1:6443/openid/v1/jwks".to_owned(),
    }
}

/// A server with what every cluster has, and nobody who works in it.
async fn server() -> InProcess {
    let config = Config {
        kinds: kinds::all(),
        store: store::Store::temporary().unwrap(),
        pools: vec![
            Pool {
                name: kinds::pools::SERVICE_IPV4.into(),
                values: Values::Addresses("10.96.0.0/16".parse().unwrap()),
            },
            Pool {
                name: kinds::pools::NODE_PORTS.into(),
                values: Values::Ports(30000..=32767),
            },
        ],
        service_account: Some(service_accounts()),
        client_certificates: None,
        kubelet_tls: None,
        address: "127.0.0.1:6443".to_owned(),
        admission: apiserver::Admission::default(),
        audit: None,
        limits: apiserver::Limits::default(),
    };
    let server = ApiServer::new(config).unwrap();
    server.ready().await;
    let server = InProcess(server);
    let mut objects = bootstrap::objects();
    let service = bootstrap::kubernetes_service("10.96.0.1", 6443);
    objects.push((api::Gvr::new("", "v1", "services"), service));
    for (resource, object) in objects {
        let path = match resource.group.as_str() {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let path = match api::meta::namespace(&object) {
            "" => format!("{path}/{}", resource.resource),
            namespace => format!("{path}/namespaces/{namespace}/{}", resource.resource),
        };
        let answer = server.call(Request::json("POST", path, &object)).await.unwrap();
        let body = String::from_utf8_lossy(&answer.body);
        assert!(matches!(answer.code, 201 | 409), "{body}");
    }
    server
}

enum Entry {
    Seed(Box<Seed>),
    Script(Script),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Seed(seed) => &seed.seed,
            Self::Script(script) => &script.script,
        }
    }

    async fn ask(&self, server: &InProcess, part: Part) -> Result<Outcomes, RunError> {
        match self {
            Self::Seed(seed) => run::seed(server, seed, part).await,
            Self::Script(script) => script::run(server, script).await,
        }
    }
}

/// What differs from the recorded answers and is not accepted, a line each.
fn compare(name: &str, mine: &Outcomes, accepted: &Accepted) -> Vec<String> {
    let Ok(outcomes) = expected::read(name) else {
        return vec![format!("{name} | | has no expectations")];
    };
    let mut found = Vec::new();
    for (case, have) in mine {
        let Some(want) = outcomes.get(case) else {
            found.push(format!("{name} | {case} | was not recorded"));
            continue;
        };
        for line in accepted.remaining(name, case, want.differences(have)) {
            found.push(format!("{name} | {case} | {line}"));
        }
    }
    found
}

/// Scripts whole, and of what follows from seeds one case in [`FEW`]. `SKIFF_DIFFERENCES=FILE` asks all and writes
/// what differs to a file, `SKIFF_DIFFERENCES_OF=pods,jobs` only of seeds and scripts whose names begin so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_upstreams() {
    let server = Arc::new(server().await);
    let file = std::env::var_os("SKIFF_DIFFERENCES");
    let part = if file.is_some() {
        Part::Everything
    } else {
        Part::OneIn(FEW)
    };
    let only = std::env::var("SKIFF_DIFFERENCES_OF").unwrap_or_default();
    let seeds = seeds::all()
        .unwrap()
        .into_iter()
        .map(|seed| Entry::Seed(Box::new(seed)));
    let scripts = script::all().unwrap().into_iter().map(Entry::Script);
    let mut entries: Vec<Entry> = scripts.chain(seeds).collect();
    entries.retain(|entry| only.split(',').any(|only| entry.name().starts_with(only)));
    // The largest are begun first: they come last here, and are taken from there.
    entries.sort_by_key(|entry| entry.name().starts_with("pods-"));
    let waiting = Arc::new(Mutex::new(entries));
    let workers: Vec<_> = (0..SIDE_BY_SIDE)
        .map(|_| {
            let (server, waiting) = (server.clone(), waiting.clone());
            tokio::spawn(async move {
                let (accepted, mut found) = (Accepted::default(), Vec::new());
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some(entry) = next else { return (accepted, found) };
                    match entry.ask(&server, part).await {
                        Ok(mine) => found.extend(compare(entry.name(), &mine, &accepted)),
                        Err(error) => found.push(format!("{} | | {error}", entry.name())),
                    }
                }
            })
        })
        .collect();
    let (mut found, mut unused) = (Vec::new(), Vec::new());
    for worker in workers {
        let (accepted, some) = worker.await.unwrap();
        found.extend(some);
        unused.push(accepted.unused());
    }
    found.sort();
    if let Some(file) = file {
        std::fs::write(file, found.join("\n") + "\n").unwrap();
        let unused: Vec<usize> = unused[0]
            .iter()
            .copied()
            .filter(|line| unused[1].contains(line))
            .collect();
        assert!(
            !only.is_empty() || unused.is_empty(),
            "lines {unused:?} of data/accepted.txt accept nothing"
        );
    }
    let open = accepted::open();
    found.retain(|line| !open.contains(line));
    let shown: Vec<&String> = found.iter().take(50).collect();
    assert!(found.is_empty(), "{} differences\n{shown:#?}", found.len());
}
