//! Upstream's recorded answers, and the server's own: see crates/differential and docs/differences.md.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use apiserver::{ApiServer, Config, Peer, Pool, UserInfo, Values, body};
use differential::accepted::{self, Accepted};
use differential::run::{Outcomes, Part};
use differential::{Answer, Request, Server, expected, run, script, seeds};
use http_body_util::BodyExt;

/// Seeds have so many cases that a test of them all would take minutes.
const FEW: u64 = 16;

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
        let admin = Peer {
            user: Some(UserInfo::new("admin", &["system:masters"])),
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
        service_account: None,
        client_certificates: None,
        kubelet_tls: None,
        address: "127.0.0.1:6443".to_owned(),
        admission: apiserver::Admission::default(),
        audit: None,
        limits: apiserver::Limits::default(),
    };
    let server = ApiServer::new(config).unwrap();
    server.ready().await;
    InProcess(server)
}

/// What differs from the recorded answers and is not accepted, a line each.
fn compare(name: &str, mine: &Outcomes, accepted: &Accepted, found: &mut Vec<String>) {
    let Ok(outcomes) = expected::read(name) else {
        found.push(format!("{name} | | has no expectations"));
        return;
    };
    for (case, have) in mine {
        let Some(want) = outcomes.get(case) else {
            found.push(format!("{name} | {case} | was not recorded"));
            continue;
        };
        for line in accepted.remaining(name, case, want.differences(have)) {
            found.push(format!("{name} | {case} | {line}"));
        }
    }
}

/// Scripts whole, and of what follows from seeds one case in [`FEW`]; all of it with `SKIFF_DIFFERENCES=all`. With
/// `SKIFF_UPDATE=1`, what is not judged yet is listed anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_upstreams() {
    let server = Arc::new(server().await);
    let all = std::env::var_os("SKIFF_DIFFERENCES").is_some_and(|which| which == "all");
    let part = if all { Part::Everything } else { Part::OneIn(FEW) };
    let accepted = Accepted::default();
    let mut found = Vec::new();
    let seeds = seeds::all().unwrap();
    let asked = seeds.iter().cloned().map(|seed| {
        let server = server.clone();
        tokio::spawn(async move { run::seed(&*server, &seed, part).await })
    });
    let asked: Vec<_> = asked.collect();
    for (seed, asked) in seeds.iter().zip(asked) {
        match asked.await.unwrap() {
            Ok(mine) => compare(&seed.seed, &mine, &accepted, &mut found),
            Err(error) => found.push(format!("{} | | {error}", seed.seed)),
        }
    }
    for script in script::all().unwrap() {
        let mine = script::run(&*server, &script).await.unwrap();
        compare(&script.script, &mine, &accepted, &mut found);
    }
    found.sort();
    if std::env::var_os("SKIFF_UPDATE").is_some() {
        accepted::write_unjudged(&found).unwrap();
        return;
    }
    if !all {
        let known = accepted::unjudged();
        let gone: Vec<&String> = known.iter().filter(|line| !found.contains(line)).collect();
        assert!(
            gone.is_empty(),
            "these differ no more: list anew with SKIFF_UPDATE=1\n{gone:#?}"
        );
        found.retain(|line| !known.contains(line));
    }
    let shown: Vec<&String> = found.iter().take(50).collect();
    assert!(found.is_empty(), "{} differences\n{shown:#?}", found.len());
}
