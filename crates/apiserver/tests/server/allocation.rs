//! Values that are unique in the cluster.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use apiserver::kind::{Claim, Kind, Pick};
use apiserver::{Pool, Values};
use serde_json::{Value, json};
use store::Op;

use crate::harness::{self, Server, config_map, server_with};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

fn held(object: &Value) -> BTreeSet<Claim> {
    let port = object["data"]["port"].as_str();
    port.map(|p| Claim {
        pool: "ports".into(),
        value: p.into(),
    })
    .into_iter()
    .collect()
}

fn fill(new: &mut Value, _old: Option<&Value>, pick: &mut dyn Pick) -> Vec<Error> {
    let path = Path::new("data").child("port");
    match new["data"]["port"].as_str().map(str::to_owned) {
        None => match pick.any("ports") {
            Ok(port) => {
                new["data"] = json!({"port": port});
                Vec::new()
            }
            Err(error) => vec![Error::internal(&path, error.to_string())],
        },
        Some(port) => match pick.exact("ports", &port) {
            Ok(()) => Vec::new(),
            Err(error) => vec![Error::invalid(&path, port, error.to_string())],
        },
    }
}

fn kinds() -> Vec<Kind> {
    let mut kinds = harness::kinds();
    kinds[0] = kinds[0].clone().allocates(held, fill);
    kinds
}

async fn server() -> Server {
    let server = server_with(kinds(), |config| {
        config.pools = vec![Pool {
            name: "ports".into(),
            values: Values::Ports(100..=107),
        }];
    })
    .await;
    server.namespace("ns").await;
    server
}

#[tokio::test]
async fn every_value_is_given_once_even_at_once() {
    let server = server().await;
    let post = async |at: usize| {
        server
            .post(MAPS, &config_map(&format!("m{at}"), &json!({})))
            .await
            .expect(201)
    };
    let made = futures_util::future::join_all((0..8).map(post)).await;
    let ports: BTreeSet<&str> = made.iter().map(|o| o["data"]["port"].as_str().unwrap()).collect();
    assert_eq!(ports.len(), 8);
    let full = server.post(MAPS, &config_map("more", &json!({}))).await.expect(422);
    assert!(full["message"].as_str().unwrap().contains("range is full"));

    let port = made[3]["data"]["port"].as_str().unwrap();
    let wanted = config_map("wanted", &json!({"port": port}));
    let taken = server.post(MAPS, &wanted).await.expect(422);
    assert!(
        taken["message"]
            .as_str()
            .unwrap()
            .ends_with("provided port is already allocated")
    );
    server.delete(&format!("{MAPS}/m3")).await.expect(200);
    server.post(MAPS, &wanted).await.expect(201);
    let outside = server
        .post(MAPS, &config_map("x", &json!({"port": "9"})))
        .await
        .expect(422);
    assert!(
        outside["message"]
            .as_str()
            .unwrap()
            .ends_with("The range of valid ports is 100-107")
    );
}

#[tokio::test]
async fn an_update_moves_the_claim() {
    let server = server().await;
    let mut object = server
        .post(MAPS, &config_map("a", &json!({"port": "101"})))
        .await
        .expect(201);
    object["data"]["port"] = json!("102");
    server.put(&format!("{MAPS}/a"), &object).await.expect(200);
    server
        .post(MAPS, &config_map("b", &json!({"port": "102"})))
        .await
        .expect(422);
    server
        .post(MAPS, &config_map("b", &json!({"port": "101"})))
        .await
        .expect(201);
}

#[tokio::test]
async fn claims_are_mended_at_start() {
    let server = server().await;
    server
        .post(MAPS, &config_map("a", &json!({"port": "101"})))
        .await
        .expect(201);
    let txn = store::Txn {
        success: vec![
            Op::delete("/registry/allocations/ports/101"),
            Op::put("/registry/allocations/ports/105", &b"/registry/configmaps/ns/gone"[..]),
        ],
        ..store::Txn::default()
    };
    server.store.txn(txn).await.unwrap();
    let config = apiserver::Config {
        kinds: kinds(),
        store: server.store.clone(),
        pools: vec![Pool {
            name: "ports".into(),
            values: Values::Ports(100..=107),
        }],
        service_account: None,
        client_certificates: None,
        kubelet_tls: None,
        address: String::new(),
        admission: apiserver::Admission::default(),
    };
    let again = Server {
        api: apiserver::ApiServer::new(config).unwrap(),
        store: server.store.clone(),
    };
    again.api.ready().await;
    again
        .post(MAPS, &config_map("b", &json!({"port": "101"})))
        .await
        .expect(422);
    again
        .post(MAPS, &config_map("c", &json!({"port": "105"})))
        .await
        .expect(201);
}
