use std::time::Duration;

use bytes::Bytes;
use client::{Auth, Client, Config, Roots};
use http::Request;
use http_body_util::BodyExt;
use pki::{Identity, Pki};
use serde_json::{Value, json};
use streams::{Outcome, port_forward, remote_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::World;

fn client(world: &World, pki: &Pki, identity: Option<&Identity>, token: Option<&str>) -> Client {
    let address = world.node.as_ref().unwrap().address().unwrap();
    let auth = match (identity, token) {
        (Some(identity), _) => Auth::Certificate {
            certificate: identity.cert_pem.clone().into_bytes(),
            key: identity.key_pem.clone().into_bytes(),
        },
        (None, Some(token)) => Auth::Token(token.into()),
        (None, None) => Auth::None,
    };
    Client::https(Config::new(
        format!("https://{address}"),
        Roots::Pem(pki.ca_pem.clone().into_bytes()),
        auth,
    ))
    .unwrap()
}

async fn serving_pod() -> (World, Pki, Client) {
    let (world, pki) = World::serving().await;
    world.simple("p");
    world.ready("p").await;
    let client = client(&world, &pki, Some(&pki.apiserver_kubelet_client), None);
    (world, pki, client)
}

fn append(world: &World, lines: &str) {
    use std::io::Write;
    let path = world.runtime.container("a").unwrap().log_path;
    std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
}

#[tokio::test]
async fn logs_by_all_options() {
    let (world, _pki, client) = serving_pod().await;
    append(
        &world,
        "2026-11-20T21:00:01Z stderr P par\n2026-11-20T21:00:01.5Z stderr F tial\n2026-11-20T21:00:02Z stdout F last\n",
    );
    for (query, expected) in [
        ("", "hello\npartial\nlast\n"),
        ("?tailLines=1", "last\n"),
        ("?tailLines=0", ""),
        ("?limitBytes=7", "hello\np"),
        ("?timestamps=true&tailLines=1", "2026-11-20T21:00:02Z last\n"),
        ("?sinceTime=2026-11-20T21:00:02Z", "last\n"),
        ("?stream=Stderr", "partial\n"),
    ] {
        assert_eq!(
            client.get_text(&format!("/containerLogs/ns/p/a{query}")).await.unwrap(),
            expected,
            "{query}"
        );
    }
    for (path, code, message) in [
        ("/containerLogs/ns/none/a", 404, "pod \"none\" not found"),
        ("/containerLogs/ns/p/x", 400, "container x is not valid for pod p"),
        (
            "/containerLogs/ns/p/a?previous=true",
            400,
            "previous terminated container \"a\" in pod \"p\" not found",
        ),
        (
            "/containerLogs/ns/p/a?tailLines=-1",
            400,
            "tailLines must be at least 0",
        ),
    ] {
        let answer = client
            .send(Request::get(path).body(Bytes::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), code, "{path}");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), message);
    }
}

#[tokio::test]
async fn logs_follow_growth_rotation_and_end() {
    let (world, _pki, client) = serving_pod().await;
    let request = Request::get("/containerLogs/ns/p/a?follow=true")
        .body(Bytes::new())
        .unwrap();
    let mut body = client.request(request).await.unwrap().into_body();
    let mut next = async || {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(10), body.frame())
                .await
                .expect("in time")?;
            let text = String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap();
            if !text.is_empty() {
                return Some(text);
            }
        }
    };
    assert_eq!(next().await.unwrap(), "hello\n");
    append(&world, "2026-11-20T21:00:01Z stdout F more\n");
    assert_eq!(next().await.unwrap(), "more\n");
    let path = world.runtime.container("a").unwrap().log_path;
    std::fs::rename(&path, path.with_extension("log.old")).unwrap();
    std::fs::write(&path, "2026-11-20T21:00:03Z stdout F rotated\n").unwrap();
    assert_eq!(next().await.unwrap(), "rotated\n");
    append(&world, "2026-11-20T21:00:04Z stdout F bye\n");
    world.runtime.exit("a", 0);
    assert_eq!(next().await.unwrap(), "bye\n");
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn exec_over_a_websocket() {
    let (_world, _pki, client) = serving_pod().await;
    let mut request = Request::get("/exec/ns/p/a?command=ls&command=-l&output=1&error=1")
        .body(Bytes::new())
        .unwrap();
    *request.headers_mut() = streams::websocket_request_headers(remote_command::CLIENT_PROTOCOLS);
    let (response, socket) = client.upgrade(request).await.unwrap();
    let protocol = response.headers()["sec-websocket-protocol"]
        .to_str()
        .unwrap()
        .to_string();
    let mut remote = remote_command::Client::new(socket, &protocol);
    let mut output = String::new();
    let outcome = {
        let read = remote.stdout.read_to_string(&mut output);
        read.await.unwrap();
        remote.outcome().await
    };
    assert_eq!((output.as_str(), outcome), ("ran ls -l", Outcome::ExitCode(3)));
}

#[tokio::test]
async fn port_forward_reaches_the_pods_loopback() {
    let (_world, _pki, client) = serving_pod().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4];
        socket.read_exact(&mut buffer).await.unwrap();
        socket.write_all(b"pong").await.unwrap();
    });
    let mut request = Request::get("/portForward/ns/p").body(Bytes::new()).unwrap();
    *request.headers_mut() = streams::websocket_request_headers(port_forward::CLIENT_PROTOCOLS);
    let (_, socket) = client.upgrade(request).await.unwrap();
    let mut forwarder = port_forward::Client::new(socket);
    let mut forward = forwarder.open(port).await.unwrap();
    forward.sender.send(Bytes::from_static(b"ping")).await.unwrap();
    assert_eq!(forward.receiver.recv().await.unwrap(), "pong");
    let mut refused = forwarder.open(1).await.unwrap();
    let message = refused.error().await.unwrap();
    assert!(
        message.contains("failed to connect to localhost:1 inside the pod"),
        "{message}"
    );
}

#[tokio::test]
async fn documents_for_people_and_programs() {
    let (_world, _pki, client) = serving_pod().await;
    assert_eq!(client.get_text("/healthz").await.unwrap(), "ok");
    let pods: Value = client.get_json("/pods").await.unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "p");
    let running: Value = client.get_json("/runningpods/").await.unwrap();
    assert_eq!(running["items"][0]["spec"]["containers"][0]["name"], "a");
    let summary: Value = client.get_json("/stats/summary").await.unwrap();
    assert_eq!(summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 1000);
    assert_eq!(summary["node"]["nodeName"], "n1");
    let metrics = client.get_text("/metrics/resource").await.unwrap();
    assert!(
        metrics.contains("container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"p\"} 5 "),
        "{metrics}"
    );
    assert!(
        client
            .get_text("/metrics")
            .await
            .unwrap()
            .contains("kubelet_running_pods 1")
    );
    assert_eq!(
        client.get_json::<Value>("/configz").await.unwrap()["kubeletconfig"]["maxPods"],
        110
    );
    assert_eq!(client.get_text("/nothing").await.unwrap_err().code(), Some(404));
}

#[tokio::test]
async fn strangers_are_refused_and_the_api_is_asked() {
    let (world, pki, _) = serving_pod().await;
    let nobody = client(&world, &pki, None, None);
    assert_eq!(nobody.get_text("/pods").await.unwrap_err().code(), Some(401));
    // The API of these tests answers a review with what was sent: without a status.
    let token = client(&world, &pki, None, Some("t"));
    assert_eq!(token.get_text("/pods").await.unwrap_err().code(), Some(401));
    let node = client(&world, &pki, Some(&pki.kubelet_client), None);
    let error = node.get_text("/metrics").await.unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(
        error
            .report()
            .contains("Forbidden (user=system:node:n1, verb=get, resource=nodes, subresource=[\"metrics\"])")
    );
    let reviews = world.api.list("subjectaccessreviews");
    assert_eq!(
        reviews[0]["spec"]["resourceAttributes"],
        json!({"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": "n1"})
    );
}
