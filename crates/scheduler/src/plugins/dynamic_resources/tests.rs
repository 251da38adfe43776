use super::*;
use crate::cluster::Cluster;
use crate::intern::Interner;
use crate::testing::{node, pod};

fn shared(value: Value) -> Shared {
    Arc::new(value)
}

fn slice(on: &str, devices: usize) -> Value {
    let devices: Vec<Value> = (0..devices).map(|index| json!({"name": format!("d{index}")})).collect();
    json!({"metadata": {"name": on}, "spec": {"driver": "gpu.example.com", "nodeName": on, "devices": devices,
        "pool": {"name": on, "generation": 1, "resourceSliceCount": 1}}})
}

fn claim(name: &str, version: &str, status: Value) -> Value {
    let request =
        json!({"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}});
    json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version},
        "spec": {"devices": {"requests": [request]}}, "status": status})
}

fn claiming(name: &str, claim: &str) -> Arc<PodInfo> {
    pod(name)
        .json(json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": claim}]}))
        .info()
}

struct World {
    plugin: DynamicResources,
    cluster: Cluster,
}

impl World {
    /// Nodes n1 with a device and n2 with none.
    fn new() -> World {
        let mut cluster = Cluster::default();
        for name in ["n1", "n2"] {
            cluster.set_node(node(name).build());
        }
        cluster.settle();
        let world = World {
            plugin: DynamicResources::default(),
            cluster,
        };
        world.see(Resource::ResourceSlice, slice("n1", 1));
        world.see(Resource::DeviceClass, json!({"metadata": {"name": "gpu"}, "spec": {}}));
        world
    }

    fn see(&self, resource: Resource, object: Value) {
        self.plugin.observe(resource, None, Some(&shared(object)));
    }

    fn context(&self) -> Context<'_> {
        Context {
            cluster: &self.cluster,
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    /// What each node says; or what all of them are turned down with.
    fn filter(&self, pod: &Arc<PodInfo>) -> Vec<String> {
        let words = |rejection: Rejection| rejection.texts(pod).join("; ");
        match self.plugin.pre_filter(&self.context(), pod) {
            PreFilter::Skip => Vec::new(),
            PreFilter::Reject(rejection) => vec![words(rejection)],
            PreFilter::Run { filter, .. } => {
                let filter = filter.expect("it asks nodes");
                let nodes = self.cluster.nodes();
                nodes
                    .map(|node| filter.check(node).map_or_else(words, |()| "fits".to_owned()))
                    .collect()
            }
        }
    }

    fn reserve(&self, pod: &Arc<PodInfo>, node: &str) -> Result<(), Rejection> {
        self.plugin
            .reserve(&self.context(), pod, self.cluster.node(node).expect("a node"))
    }

    fn writes(&self, pod: &Arc<PodInfo>) -> Option<Vec<Write>> {
        match self.plugin.pre_bind(&self.context(), pod, "n1") {
            PreBind::Done => None,
            PreBind::Wait { writes, .. } => Some(writes),
            PreBind::Reject(rejection) => panic!("{rejection:?}"),
        }
    }
}

#[test]
fn a_claim_is_allocated_reserved_and_seen() {
    let world = World::new();
    let pod = claiming("p", "c");
    world.see(Resource::ResourceClaim, claim("c", "1", json!({})));
    assert_eq!(world.filter(&pod), ["fits", "cannot allocate all claims"]);
    world.reserve(&pod, "n1").unwrap();
    // Nobody else gets the device, or the claim.
    world.see(Resource::ResourceClaim, claim("other", "1", json!({})));
    assert_eq!(world.filter(&claiming("q", "other")), ["cannot allocate all claims"; 2]);
    let taken = "resource claim default/c is in the process of being allocated";
    assert_eq!(world.filter(&claiming("q", "c")), [taken]);
    let first = world.writes(&pod).unwrap();
    assert_eq!((first.len(), first[0].subresource), (1, ""));
    assert_eq!(
        first[0].body["metadata"],
        json!({"finalizers": [FINALIZER], "resourceVersion": "1", "uid": "uid-c"})
    );
    assert_eq!(world.writes(&pod).unwrap(), [], "what was sent is awaited");
    let mut held = claim("c", "2", json!({}));
    held["metadata"]["finalizers"] = json!([FINALIZER]);
    world.see(Resource::ResourceClaim, held.clone());
    let second = world.writes(&pod).unwrap();
    let status = &second[0].body["status"];
    assert_eq!(second[0].subresource, "status");
    assert_eq!(
        status["reservedFor"],
        json!([{"resource": "pods", "name": "p", "uid": "uid-p"}])
    );
    assert_eq!(status["allocation"]["devices"]["results"][0]["device"], "d0");
    held["metadata"]["resourceVersion"] = json!("3");
    held["status"] = status.clone();
    world.see(Resource::ResourceClaim, held);
    assert_eq!(world.writes(&pod), None);
    assert_eq!(world.filter(&claiming("q", "other")), ["cannot allocate all claims"; 2]);
    // Another pod may share the claim, on its node.
    assert_eq!(
        world.filter(&claiming("q", "c")),
        ["fits", "resourceclaim not available on the node"]
    );
}

#[test]
fn what_is_given_up_is_free_again() {
    let world = World::new();
    world.see(Resource::ResourceClaim, claim("c", "1", json!({})));
    world.see(Resource::ResourceClaim, claim("other", "1", json!({})));
    let pod = claiming("p", "c");
    world.reserve(&pod, "n1").unwrap();
    assert!(world.reserve(&claiming("q", "other"), "n1").is_err());
    world.plugin.unreserve(&world.context(), &pod);
    world.plugin.unreserve(&world.context(), &pod);
    world.reserve(&claiming("q", "other"), "n1").unwrap();
}

#[test]
fn pods_wait_for_their_claims() {
    let world = World::new();
    assert_eq!(world.filter(&pod("p").info()), Vec::<String>::new());
    let missing = claiming("p", "c");
    assert_eq!(world.filter(&missing), ["resourceclaim \"c\" not found"]);
    assert!(world.plugin.pre_enqueue(&world.context(), &missing).is_err());
    let mut going = claim("c", "1", json!({}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.see(Resource::ResourceClaim, going);
    assert_eq!(world.filter(&missing), ["resourceclaim \"c\" is being deleted"]);
    let mut of_another_class = claim("c", "2", json!({}));
    of_another_class["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = json!("none");
    world.see(Resource::ResourceClaim, of_another_class);
    assert_eq!(world.filter(&missing), ["request r: device class none does not exist"]);
    let made = |status: Value| {
        let mut object = pod("p")
            .json(json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}))
            .object();
        object.status = serde_json::from_value(json!({"resourceClaimStatuses": status})).unwrap();
        Arc::new(PodInfo::new(&object, &Interner::default()))
    };
    assert_eq!(
        world.filter(&made(json!([]))),
        ["pod \"default/p\": ResourceClaim not created yet"]
    );
    assert_eq!(world.filter(&made(json!([{"name": "gpu"}]))), Vec::<String>::new());
    let made = made(json!([{"name": "gpu", "resourceClaimName": "made"}]));
    let mut own = claim("made", "1", json!({}));
    world.see(Resource::ResourceClaim, own.clone());
    let words = "ResourceClaim default/made was not created for pod default/p (pod is not owner)";
    assert_eq!(world.filter(&made), [words]);
    own["metadata"]["ownerReferences"] = json!([{"controller": true, "uid": "uid-p"}]);
    world.see(Resource::ResourceClaim, own);
    assert_eq!(world.filter(&made)[0], "fits");
}

#[test]
fn taints_by_rules_count() {
    let world = World::new();
    world.see(Resource::ResourceClaim, claim("c", "1", json!({})));
    let rule = |device: &str| {
        json!({"metadata": {"name": "rule"}, "spec": {"deviceSelector": {"driver": "gpu.example.com", "device": device},
            "taint": {"key": "k", "effect": "NoSchedule"}}})
    };
    world.see(Resource::DeviceTaintRule, rule("d1"));
    assert_eq!(world.filter(&claiming("p", "c"))[0], "fits");
    world.see(Resource::DeviceTaintRule, rule("d0"));
    assert_eq!(world.filter(&claiming("p", "c"))[0], "cannot allocate all claims");
}

#[test]
fn hints_are_about_own_claims_and_freed_devices() {
    let world = World::new();
    let pod = claiming("p", "c");
    let event = |old: Option<Value>, new: Option<Value>| Event {
        resource: Resource::ResourceClaim,
        action: Action::UPDATE,
        old: old.map(shared),
        new: new.map(shared),
    };
    let hint = |event: &Event| world.plugin.hint(&world.context(), &pod, event);
    let allocated = || claim("other", "1", json!({"allocation": {"devices": {}}}));
    assert!(hint(&event(None, Some(claim("c", "1", json!({}))))));
    assert!(!hint(&event(None, Some(claim("other", "1", json!({}))))));
    assert!(hint(&event(Some(allocated()), Some(claim("other", "2", json!({}))))));
    assert!(hint(&event(Some(allocated()), None)));
    assert!(!hint(&event(None, Some(allocated()))));
    assert!(hint(&Event::bare(Resource::ResourceSlice, Action::ADD)));
    let plain = crate::testing::pod("plain").info();
    assert!(!world.plugin.hint(
        &world.context(),
        &plain,
        &Event::bare(Resource::ResourceSlice, Action::ADD)
    ));
}
