use k8s_openapi::api::core::v1::Pod;
use scheduler::intern::Interner;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::SchedulerHandle;

/// Answers one request of a connection; what was asked is told.
async fn serve(stream: TcpStream, asked: mpsc::UnboundedSender<(String, Value)>) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.unwrap();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(given) = line.strip_prefix("content-length:") {
            length = given.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let (code, answer) = match path.as_str() {
        "/scheduler/filter" => ("200 OK", json!({"NodeNames": ["n1"]}).to_string()),
        "/scheduler/bind" => ("200 OK", json!({"Error": "the node is reserved"}).to_string()),
        "/scheduler/garbled" => ("200 OK", "<html>".to_owned()),
        "/scheduler/slow" => return std::future::pending().await,
        _ => ("404 Not Found", "none".to_owned()),
    };
    asked.send((path, serde_json::from_slice(&body).unwrap())).unwrap();
    let answer = format!(
        "HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    );
    stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
}

async fn server() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/scheduler", listener.local_addr().unwrap());
    let (asked, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, asked.clone()));
        }
    });
    (url, told)
}

fn webhooks(part: Value) -> Webhooks {
    Webhooks::new(vec![serde_json::from_value(part).unwrap()]).unwrap()
}

#[tokio::test]
async fn an_extender_is_asked_by_http() {
    let (url, mut told) = server().await;
    let hooks = webhooks(json!({"urlPrefix": format!("{url}/"), "filterVerb": "filter", "bindVerb": "bind"}));
    let answer = hooks.send(0, "filter", &json!({"NodeNames": ["n1", "n2"]})).await;
    assert_eq!(answer, Ok(json!({"NodeNames": ["n1"]})));
    assert_eq!(
        told.recv().await,
        Some(("/scheduler/filter".to_owned(), json!({"NodeNames": ["n1", "n2"]})))
    );
    let pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"}, "spec": {"containers": []}});
    let pod = PodInfo::new(&serde_json::from_value::<Pod>(pod).unwrap(), &Interner::default());
    assert_eq!(hooks.binder(&pod), Some(0));
    assert_eq!(hooks.bind(0, &pod, "n1").await, Err("the node is reserved".to_owned()));
    let (path, arguments) = told.recv().await.unwrap();
    assert_eq!(path, "/scheduler/bind");
    assert_eq!(
        arguments,
        json!({"PodName": "p", "PodNamespace": "d", "PodUID": "u", "Node": "n1"})
    );
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let (url, _told) = server().await;
    let hooks = webhooks(json!({"urlPrefix": url, "httpTimeout": "50ms"}));
    let missing = hooks.send(0, "none", &json!({})).await.unwrap_err();
    assert_eq!(
        missing,
        format!("failed none with extender at URL {url}/none, code 404")
    );
    let garbled = hooks.send(0, "garbled", &json!({})).await.unwrap_err();
    assert!(garbled.contains("/scheduler/garbled: expected value"), "{garbled}");
    let late = hooks.send(0, "slow", &json!({})).await.unwrap_err();
    assert!(late.ends_with("/scheduler/slow\": no answer within 0.05 s"), "{late}");
    let nobody = webhooks(json!({"urlPrefix": "http://127.0.0.1:1"}))
        .send(0, "filter", &json!({}))
        .await;
    assert!(nobody.is_err());
}

#[test]
fn a_configuration_with_extenders_is_read_and_checked() {
    let file = |extender: Value| {
        SchedulerHandle::configured(&json!({"apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration", "extenders": [extender]}))
    };
    let good = file(
        json!({"urlPrefix": "https://127.0.0.1:1/x", "enableHTTPS": true, "filterVerb": "filter",
        "httpTimeout": "30s", "managedResources": [{"name": "example.com/foo", "ignoredByScheduler": true}]}),
    );
    assert!(good.is_ok());
    for (extender, error) in [
        (
            json!({"urlPrefix": "gopher://x"}),
            "extenders[0]: the server address \"gopher://x\"",
        ),
        (
            json!({"urlPrefix": "http://x", "httpTimeout": "soon"}),
            "extenders[0]: httpTimeout: \"soon\" is no duration",
        ),
        (
            json!({"urlPrefix": "http://x", "tlsConfig": {"caFile": "/nowhere"}}),
            "extenders[0]: read /nowhere",
        ),
    ] {
        let said = file(extender).unwrap_err().to_string();
        assert!(said.contains(error), "{said}");
    }
}
