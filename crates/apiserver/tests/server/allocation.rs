//! Values that are unique in the cluster.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use apiserver::kind::{Claim, ClaimObjects, Kind, Pick};
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
        audit: None,
        limits: apiserver::Limits::default(),
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

/// Config maps that hold addresses, which are objects of their own.
fn kinds_with_addresses() -> Vec<Kind> {
    let held = |object: &Value| {
        let address = object["data"]["address"].as_str();
        let claim = address.map(|value| Claim {
            pool: "addresses".into(),
            value: value.into(),
        });
        claim.into_iter().collect()
    };
    let fill = |new: &mut Value, _: Option<&Value>, pick: &mut dyn Pick| {
        let path = Path::new("data").child("address");
        let picked = match new["data"]["address"].as_str() {
            None => pick.any("addresses"),
            Some(asked) => pick.exact("addresses", asked).map(|()| asked.to_owned()),
        };
        match picked {
            Ok(address) => {
                new["data"] = json!({"address": address});
                Vec::new()
            }
            Err(error) => vec![Error::invalid(&path, "", error.to_string())],
        }
    };
    let object = |claim: &Claim, holder: &Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": claim.value, "labels": {"by": "us"}},
            "spec": {"parentRef": {"resource": "configmaps", "name": holder["metadata"]["name"]}}})
    };
    let networks = |cidr: &Value| {
        let texts = cidr["spec"]["cidrs"].as_array().into_iter().flatten();
        texts.filter_map(|text| text.as_str()?.parse().ok()).collect()
    };
    let mut kinds = harness::kinds();
    kinds[0] = kinds[0].clone().allocates(held, fill).claims_objects(ClaimObjects {
        pools: &["addresses"],
        group: "networking.k8s.io",
        plural: "ipaddresses",
        managed_by: "by=us".into(),
        object: std::sync::Arc::new(object),
        networks: Some(("networking.k8s.io", "servicecidrs", networks)),
    });
    kinds.push(Kind::cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses"));
    kinds.push(Kind::cluster("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs"));
    kinds
}

fn with_addresses(config: &mut apiserver::Config) {
    config.pools = vec![Pool {
        name: "addresses".into(),
        values: Values::Addresses("10.0.0.0/30".parse().unwrap()),
    }];
}

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

#[tokio::test]
async fn claims_can_be_objects() {
    let server = server_with(kinds_with_addresses(), with_addresses).await;
    server.namespace("ns").await;
    let empty = json!({});
    for name in ["a", "b"] {
        let made = server.post(MAPS, &config_map(name, &empty)).await.expect(201);
        let address = made["data"]["address"].as_str().unwrap();
        let claim = server.get(&format!("{ADDRESSES}/{address}")).await.expect(200);
        assert_eq!(claim["spec"]["parentRef"]["name"], name);
        assert!(claim["metadata"]["uid"].is_string() && claim["metadata"]["creationTimestamp"].is_string());
    }
    let full = server.post(MAPS, &config_map("c", &empty)).await.expect(422);
    assert!(full["message"].as_str().unwrap().contains("range is full"));

    let more = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.1.0.0/30", "fd00::/120"]}});
    let cidrs = "/apis/networking.k8s.io/v1/servicecidrs";
    server.post(cidrs, &more).await.expect(201);
    let made = server.post(MAPS, &config_map("c", &empty)).await.expect(201);
    assert!(made["data"]["address"].as_str().unwrap().starts_with("10.1.0."));
    server.delete(&format!("{cidrs}/more")).await.expect(200);
    let asked = config_map("d", &json!({"address": "10.1.0.2"}));
    server.post(MAPS, &asked).await.expect(422);

    // Somebody else's object keeps its address, too.
    server.delete(&format!("{MAPS}/a")).await.expect(200);
    let list = server.get(ADDRESSES).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let free = ["10.0.0.1", "10.0.0.2"]
        .into_iter()
        .find(|address| !list.to_string().contains(&format!("\"{address}\"")))
        .unwrap();
    let foreign = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": free},
        "spec": {"parentRef": {"resource": "others", "name": "x"}}});
    server.post(ADDRESSES, &foreign).await.expect(201);
    let taken = server
        .post(MAPS, &config_map("e", &json!({"address": free})))
        .await
        .expect(422);
    assert!(
        taken["message"]
            .as_str()
            .unwrap()
            .ends_with("provided IP is already allocated")
    );
}

#[tokio::test]
async fn claims_that_are_objects_are_mended_at_start() {
    let server = server_with(kinds_with_addresses(), with_addresses).await;
    server.namespace("ns").await;
    let made = server
        .post(MAPS, &config_map("a", &json!({"address": "10.0.0.1"})))
        .await
        .expect(201);
    assert_eq!(made["data"]["address"], "10.0.0.1");
    let prefix = "/registry/networking.k8s.io/ipaddresses";
    let object = |label: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": "x", "labels": {"by": label}}})
        .to_string()
    };
    let txn = store::Txn {
        success: vec![
            Op::delete(format!("{prefix}/10.0.0.1")),
            Op::put(format!("{prefix}/10.0.0.2"), object("us").into_bytes()),
            Op::put(format!("{prefix}/10.9.9.9"), object("them").into_bytes()),
            Op::put("/registry/allocations/addresses/10.0.0.1", &b"old"[..]),
        ],
        ..store::Txn::default()
    };
    server.store.txn(txn).await.unwrap();
    let again = harness::server_over(server.store.clone(), kinds_with_addresses(), with_addresses);
    again.api.ready().await;
    for (name, code) in [("10.0.0.1", 200), ("10.0.0.2", 404), ("10.9.9.9", 200)] {
        assert_eq!(again.get(&format!("{ADDRESSES}/{name}")).await.code, code, "{name}");
    }
    let left = server
        .store
        .get("/registry/allocations/addresses/10.0.0.1")
        .await
        .unwrap();
    assert!(left.is_none());
}
