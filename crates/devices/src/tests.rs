use serde_json::json;

use super::*;

const DRIVER: &str = "gpu.example.com";

struct Named(&'static str);

impl Node for Named {
    fn name(&self) -> &str {
        self.0
    }

    fn selected_by(&self, selector: &Value) -> bool {
        // In these tests a selector is one requirement on the node's name.
        let values = &selector["nodeSelectorTerms"][0]["matchExpressions"][0]["values"];
        values
            .as_array()
            .is_some_and(|values| values.iter().any(|value| value == self.0))
    }
}

fn device(name: &str, more: Value) -> Value {
    let mut device = json!({"name": name});
    for (field, value) in more.as_object().into_iter().flatten() {
        device[field] = value.clone();
    }
    device
}

/// A pool of one slice on a node.
fn slice(pool: &str, devices: Vec<Value>) -> Value {
    json!({"metadata": {"name": pool}, "spec": {"driver": DRIVER, "nodeName": "n1",
        "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1}, "devices": devices}})
}

fn plain(pool: &str, count: usize) -> Value {
    slice(
        pool,
        (0..count)
            .map(|index| device(&format!("d{index}"), json!({})))
            .collect(),
    )
}

fn exactly(name: &str, more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    for (field, value) in more.as_object().into_iter().flatten() {
        exactly[field] = value.clone();
    }
    json!({"name": name, "exactly": exactly})
}

fn claim(requests: Vec<Value>) -> Value {
    json!({"metadata": {"namespace": "ns", "name": "c"}, "spec": {"devices": {"requests": requests}}})
}

fn selects(expression: &str) -> Value {
    json!({"selectors": [{"cel": {"expression": expression}}]})
}

struct World {
    slices: Vec<Value>,
    class: Value,
    allocated: Vec<(&'static str, &'static str)>,
}

impl World {
    fn of(slices: Vec<Value>) -> World {
        let class = json!({"metadata": {"name": "gpu"}, "spec": {}});
        World {
            slices,
            class,
            allocated: Vec::new(),
        }
    }

    fn ask(&self, claims: &[Value]) -> Result<Option<Vec<Value>>, String> {
        let slices: Vec<Arc<Slice>> = self.slices.iter().map(|slice| Arc::new(Slice::of(slice))).collect();
        let allocated = self.allocated.iter().map(|(pool, device)| DeviceId {
            driver: DRIVER.to_owned(),
            pool: (*pool).to_owned(),
            device: (*device).to_owned(),
        });
        let class = |name: &str| (name == "gpu").then(|| Arc::new(self.class.clone()));
        let stock = Stock {
            slices: &slices,
            class: &class,
            allocated: &allocated.collect(),
            selectors: &Selectors::default(),
        };
        allocate(&Named("n1"), &claims.iter().collect::<Vec<_>>(), &stock)
    }

    /// What is given: `request=pool/device`, claim by claim; `-` if nothing can be.
    fn given(&self, claims: &[Value]) -> String {
        let Some(all) = self.ask(claims).unwrap() else {
            return "-".to_owned();
        };
        let one = |allocation: &Value| {
            let results = allocation["devices"]["results"].as_array().unwrap().iter();
            let text = |result: &Value, field: &str| result[field].as_str().unwrap().to_owned();
            let names = results.map(|r| format!("{}={}/{}", text(r, "request"), text(r, "pool"), text(r, "device")));
            names.collect::<Vec<_>>().join(" ")
        };
        all.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn devices_are_given_in_their_order_and_once() {
    let mut world = World::of(vec![plain("b", 2), plain("a", 1)]);
    let one = || claim(vec![exactly("r", json!({}))]);
    assert_eq!(world.given(&[one()]), "r=a/d0");
    assert_eq!(world.given(&[one(), one(), one()]), "r=a/d0; r=b/d0; r=b/d1");
    assert_eq!(world.given(&[one(), one(), one(), one()]), "-");
    assert_eq!(
        world.given(&[claim(vec![exactly("r", json!({"count": 3}))])]),
        "r=a/d0 r=b/d0 r=b/d1"
    );
    world.allocated = vec![("a", "d0"), ("b", "d0")];
    assert_eq!(world.given(&[one()]), "r=b/d1");
    assert_eq!(world.given(&[claim(vec![exactly("r", json!({"count": 2}))])]), "-");
}

#[test]
fn the_search_goes_back() {
    let big = json!({"attributes": {"big": {"bool": true}}});
    let world = World::of(vec![slice("p", vec![device("large", big), device("small", json!({}))])]);
    let wants_big = exactly("b", selects("device.attributes['gpu.example.com'].?big.orValue(false)"));
    assert_eq!(
        world.given(&[claim(vec![exactly("any", json!({})), wants_big])]),
        "any=p/small b=p/large"
    );
}

#[test]
fn selectors_look_at_everything() {
    let more = json!({
        "attributes": {"model": {"string": "x1"}, "other.example.com/level": {"int": 3}, "sw": {"version": "1.2.3"}},
        "capacity": {"memory": {"value": "40Gi"}},
    });
    let world = World::of(vec![slice("p", vec![device("d", more)])]);
    let table = [
        ("device.driver == 'gpu.example.com'", true),
        ("device.attributes['gpu.example.com'].model == 'x1'", true),
        ("device.attributes['other.example.com'].level > 3", false),
        (
            "device.attributes['gpu.example.com'].sw.isGreaterThan(semver('1.0.0'))",
            true,
        ),
        (
            "device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) >= 0",
            true,
        ),
        (
            "device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('41Gi'))",
            false,
        ),
        ("'model' in device.attributes['unknown.example.com']", false),
        (
            "has(device.attributes['gpu.example.com'].model) && !device.allowMultipleAllocations",
            true,
        ),
    ];
    for (expression, selected) in table {
        let given = world.given(&[claim(vec![exactly("r", selects(expression))])]);
        assert_eq!(given == "r=p/d", selected, "{expression}");
    }
    let error = world.ask(&[claim(vec![exactly(
        "r",
        selects("device.attributes['gpu.example.com'].no == 1"),
    )])]);
    let error = error.unwrap_err();
    assert!(
        error.starts_with("claim ns/c: selector #0 on device gpu.example.com/p/d: CEL runtime error: no such key"),
        "{error}"
    );
    let error = world
        .ask(&[claim(vec![exactly("r", selects("device.nothing"))])])
        .unwrap_err();
    assert!(
        error.starts_with("claim ns/c: selector #0: CEL compile error: "),
        "{error}"
    );
}

#[test]
fn classes_select_and_configure() {
    let fast = json!({"attributes": {"fast": {"bool": true}}});
    let slow = json!({"attributes": {"fast": {"bool": false}}});
    let mut world = World::of(vec![slice("p", vec![device("slow", slow), device("fast", fast)])]);
    let opaque = |text: &str| json!({"driver": DRIVER, "parameters": {"is": text}});
    world.class["spec"] = json!({
        "selectors": [{"cel": {"expression": "device.attributes['gpu.example.com'].fast"}}],
        "config": [{"opaque": opaque("class")}],
    });
    let mut asked = claim(vec![exactly("r", json!({}))]);
    asked["spec"]["devices"]["config"] = json!([
        {"opaque": opaque("all")}, {"requests": ["r"], "opaque": opaque("r")}, {"requests": ["q"], "opaque": opaque("q")}]);
    assert_eq!(world.given(std::slice::from_ref(&asked)), "r=p/fast");
    let allocation = &world.ask(&[asked]).unwrap().unwrap()[0];
    assert_eq!(
        allocation["devices"]["config"],
        json!([
            {"source": "FromClass", "opaque": opaque("class")},
            {"source": "FromClaim", "opaque": opaque("all")},
            {"source": "FromClaim", "opaque": opaque("r")},
        ])
    );
    assert_eq!(
        allocation["nodeSelector"],
        json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]})
    );
    let mut unknown = claim(vec![exactly("r", json!({}))]);
    unknown["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = json!("none");
    assert!(
        world
            .ask(&[unknown])
            .unwrap_err()
            .contains("could not retrieve device class none")
    );
}

#[test]
fn all_is_every_device_that_fits() {
    let mut world = World::of(vec![plain("p", 3)]);
    let all = || claim(vec![exactly("r", json!({"allocationMode": "All"}))]);
    assert_eq!(world.given(&[all()]), "r=p/d0 r=p/d1 r=p/d2");
    world.allocated = vec![("p", "d1")];
    assert_eq!(world.given(&[all()]), "-");
    assert_eq!(World::of(vec![]).given(&[all()]), "-");
    let too_many = World::of(vec![plain("p", 33)]).ask(&[all()]).unwrap_err();
    assert_eq!(
        too_many,
        "claim ns/c: number of requested devices 33 exceeds the claim limit of 32"
    );
    let mut incomplete = plain("p", 1);
    incomplete["spec"]["pool"]["resourceSliceCount"] = json!(2);
    let world = World::of(vec![incomplete]);
    assert!(
        world
            .ask(&[all()])
            .unwrap_err()
            .contains("resource pool gpu.example.com/p is currently being updated")
    );
    assert_eq!(world.given(&[claim(vec![exactly("r", json!({}))])]), "-");
}

#[test]
fn old_generations_and_other_nodes_do_not_count() {
    let mut newer = plain("p", 1);
    newer["metadata"]["name"] = json!("newer");
    newer["spec"]["pool"]["generation"] = json!(2);
    newer["spec"]["devices"][0]["name"] = json!("new");
    let mut elsewhere = plain("elsewhere", 1);
    elsewhere["spec"]["nodeName"] = json!("n2");
    let world = World::of(vec![newer, plain("p", 1), elsewhere]);
    assert_eq!(world.given(&[claim(vec![exactly("r", json!({}))])]), "r=p/new");
    assert_eq!(world.given(&[claim(vec![exactly("r", json!({"count": 2}))])]), "-");
    // Names that are there twice make a pool useless.
    let twice = World::of(vec![slice("p", vec![device("d", json!({})), device("d", json!({}))])]);
    assert!(
        twice
            .ask(&[claim(vec![exactly("r", json!({}))])])
            .unwrap_err()
            .contains("invalid resource pools")
    );
}

#[test]
fn devices_may_be_anywhere() {
    let selector = |node: &str| json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "name", "operator": "In", "values": [node]}]}]});
    let mut network = plain("net", 1);
    network["spec"].as_object_mut().unwrap().remove("nodeName");
    let mut everywhere = network.clone();
    everywhere["spec"]["allNodes"] = json!(true);
    let ask = |slice: &Value| {
        World::of(vec![slice.clone()])
            .ask(&[claim(vec![exactly("r", json!({}))])])
            .unwrap()
    };
    assert_eq!(ask(&network), None);
    assert!(ask(&everywhere).unwrap()[0].get("nodeSelector").is_none());
    network["spec"]["nodeSelector"] = selector("n1");
    assert_eq!(ask(&network).unwrap()[0]["nodeSelector"], selector("n1"));
    network["spec"]["nodeSelector"] = selector("n2");
    assert_eq!(ask(&network), None);
    let mut each = slice(
        "each",
        vec![
            device("there", json!({"nodeName": "n2"})),
            device("here", json!({"nodeName": "n1"})),
        ],
    );
    each["spec"].as_object_mut().unwrap().remove("nodeName");
    each["spec"]["perDeviceNodeSelection"] = json!(true);
    assert_eq!(ask(&each).unwrap()[0]["devices"]["results"][0]["device"], "here");
}

#[test]
fn constraints_hold_for_all_their_devices() {
    let numa = |node: i64| json!({"attributes": {"numa": {"int": node}}});
    let devices = vec![
        device("a", numa(0)),
        device("b", numa(1)),
        device("c", numa(1)),
        device("d", json!({})),
    ];
    let world = World::of(vec![slice("p", devices)]);
    let with = |constraint: Value| {
        let mut claim = claim(vec![exactly("r", json!({})), exactly("q", json!({}))]);
        claim["spec"]["devices"]["constraints"] = json!([constraint]);
        claim
    };
    let name = "gpu.example.com/numa";
    assert_eq!(world.given(&[with(json!({"matchAttribute": name}))]), "r=p/b q=p/c");
    assert_eq!(world.given(&[with(json!({"distinctAttribute": name}))]), "r=p/a q=p/b");
    assert_eq!(
        world.given(&[with(json!({"matchAttribute": name, "requests": ["r"]}))]),
        "r=p/a q=p/b"
    );
    assert_eq!(
        world.given(&[with(json!({"matchAttribute": "other.example.com/numa"}))]),
        "-"
    );
    assert!(
        world
            .ask(&[with(json!({}))])
            .unwrap_err()
            .contains("constraint #0: empty constraint")
    );
}

#[test]
fn the_first_alternative_that_works_is_taken() {
    let world = World::of(vec![plain("p", 2)]);
    let sub = |name: &str, count: i64| json!({"name": name, "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count});
    let asked = |first: i64| {
        claim(vec![
            json!({"name": "r", "firstAvailable": [sub("many", first), sub("few", 1)]}),
        ])
    };
    assert_eq!(world.given(&[asked(2)]), "r/many=p/d0 r/many=p/d1");
    assert_eq!(world.given(&[asked(3)]), "r/few=p/d0");
    assert_eq!(world.given(&[asked(40)]), "r/few=p/d0");
    let both = claim(vec![
        json!({"name": "r", "firstAvailable": [sub("many", 2), sub("few", 1)]}),
        exactly("q", json!({})),
    ]);
    assert_eq!(world.given(&[both]), "r/few=p/d0 q=p/d1");
}

#[test]
fn administrators_share_devices() {
    let mut world = World::of(vec![plain("p", 1)]);
    world.allocated = vec![("p", "d0")];
    let admin = || claim(vec![exactly("r", json!({"adminAccess": true}))]);
    assert_eq!(world.given(&[admin(), admin()]), "r=p/d0; r=p/d0");
    assert_eq!(
        world.ask(&[admin()]).unwrap().unwrap()[0]["devices"]["results"][0]["adminAccess"],
        true
    );
    assert_eq!(
        world.given(&[claim(vec![exactly("r", json!({"adminAccess": true, "count": 2}))])]),
        "-"
    );
}

#[test]
fn taints_have_to_be_tolerated() {
    let tainted = |effect: &str| device("d", json!({"taints": [{"key": "k", "value": "v", "effect": effect}]}));
    let table = [
        ("NoSchedule", json!(null), false),
        ("NoExecute", json!({"key": "k", "operator": "Exists"}), true),
        ("NoExecute", json!({"operator": "Exists"}), true),
        ("NoSchedule", json!({"key": "k", "value": "v"}), true),
        ("NoSchedule", json!({"key": "k", "value": "w"}), false),
        (
            "NoSchedule",
            json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}),
            false,
        ),
        ("None", json!(null), true),
    ];
    for (effect, toleration, given) in table {
        let world = World::of(vec![slice("p", vec![tainted(effect)])]);
        let more = if toleration.is_null() {
            json!({})
        } else {
            json!({"tolerations": [toleration.clone()]})
        };
        let asked = claim(vec![exactly("r", more)]);
        let outcome = world.ask(&[asked]).unwrap();
        assert_eq!(outcome.is_some(), given, "{effect} {toleration}");
        if let Some(all) = outcome.filter(|_| !toleration.is_null()) {
            assert_eq!(all[0]["devices"]["results"][0]["tolerations"], json!([toleration]));
        }
    }
    let ruled = Slice::of(&plain("p", 1)).tainted(|id| {
        assert_eq!(id.to_string(), "gpu.example.com/p/d0");
        vec![Taint::of(&json!({"key": "k", "effect": "NoSchedule"}))]
    });
    assert_eq!(ruled.devices[0].taints.len(), 1);
}

#[test]
fn partitions_share_what_their_device_has() {
    let consumes =
        |memory: &str| json!({"consumesCounters": [{"counterSet": "gpu", "counters": {"memory": {"value": memory}}}]});
    let parts = vec![
        device("half", consumes("20Gi")),
        device("most", consumes("30Gi")),
        device("rest", consumes("20Gi")),
    ];
    let mut partitions = slice("p", parts);
    partitions["spec"]["pool"]["resourceSliceCount"] = json!(2);
    let counters = json!({"metadata": {"name": "sets"}, "spec": {"driver": DRIVER, "nodeName": "n1",
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 2},
        "sharedCounters": [{"name": "gpu", "counters": {"memory": {"value": "40Gi"}}}]}});
    let mut world = World::of(vec![partitions.clone(), counters]);
    let count = |count: i64| claim(vec![exactly("r", json!({"count": count}))]);
    assert_eq!(world.given(&[count(2)]), "r=p/half r=p/rest");
    assert_eq!(world.given(&[count(3)]), "-");
    world.allocated = vec![("p", "most")];
    assert_eq!(world.given(&[count(1)]), "-");
    world.allocated = vec![("p", "rest")];
    assert_eq!(world.given(&[count(1)]), "r=p/half");
    // Without its counters a device cannot be given.
    partitions["spec"]["pool"]["resourceSliceCount"] = json!(1);
    assert!(World::of(vec![partitions]).ask(&[count(1)]).is_err());
}
