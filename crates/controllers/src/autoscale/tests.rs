use serde_json::json;

use super::*;
use crate::fake::start;

/// An autoscaler with a target and metrics APIs.
struct World {
    hpa: Value,
    scale: Scale,
    answers: Vec<Result<Value, String>>,
    pods: Vec<Arc<Pod>>,
    others: Vec<(Key, String)>,
    memory: Memory,
    now: Timestamp,
    settings: Settings,
    events: Vec<String>,
}

fn pod(name: &str, request: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": name, "labels": {"app": "web"}},
        "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": request}}},
            {"name": "side", "resources": {"requests": {"cpu": request}}},
        ]},
        "status": {
            "phase": "Running", "startTime": "2025-12-31T23:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-12-31T23:00:10Z"}],
        },
    })
}

fn usage(items: &[(&str, &str)]) -> Value {
    let items: Vec<Value> = items
        .iter()
        .map(|(name, cpu)| {
            json!({"metadata": {"namespace": "ns", "name": name}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
                "containers": [{"name": "c", "usage": {"cpu": cpu}}, {"name": "side", "usage": {"cpu": "0"}}]})
        })
        .collect();
    json!({"items": items})
}

fn utilization(percent: i32) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}})
}

impl World {
    fn new(replicas: i32, metric: Value, answer: Value) -> Self {
        let hpa = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"namespace": "ns", "name": "h", "uid": "u", "resourceVersion": "1"},
            "spec": {"minReplicas": 2, "maxReplicas": 6, "metrics": [metric],
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
            "status": {"desiredReplicas": 0, "currentMetrics": null},
        });
        let pods = (0..replicas).map(|n| pod(&format!("p{n}"), "500m"));
        let pods = pods.map(|pod| Arc::new(serde_json::from_value(pod).unwrap())).collect();
        Self {
            hpa,
            scale: Scale {
                wanted: replicas,
                present: replicas,
                selector: "app=web".to_owned(),
            },
            answers: vec![Ok(answer)],
            pods,
            others: Vec::new(),
            memory: Memory::default(),
            now: start(),
            settings: Settings::default(),
            events: Vec::new(),
        }
    }

    fn edit(&mut self, index: usize, edit: impl FnOnce(&mut Value)) {
        let mut pod = serde_json::to_value(&*self.pods[index]).unwrap();
        edit(&mut pod);
        self.pods[index] = Arc::new(serde_json::from_value(pod).unwrap());
    }

    /// One look; answers with the target's size after it.
    fn look(&mut self, outcome: Result<(), &str>) -> i32 {
        let scale = self.scale.clone();
        let sight = Sight {
            hpa: &self.hpa,
            scale: Ok(&scale),
            answers: &self.answers,
            pods: &self.pods,
            others: &self.others,
            now: self.now,
            settings: &self.settings,
        };
        let decision = decide(&sight, &mut self.memory);
        if let (Some(rescale), Ok(())) = (&decision.rescale, outcome) {
            self.scale.wanted = rescale.replicas;
        }
        let plan = conclude(&sight, decision, outcome, &mut self.memory);
        self.events.clear();
        let mut after = None;
        for action in plan.actions() {
            match &action.verb {
                Verb::Tell => {
                    let text = action.told.clone().unwrap().success.unwrap();
                    self.events.push(format!("{}: {}", text.reason, text.message));
                }
                Verb::Replace {
                    object, subresource, ..
                } => {
                    assert_eq!(*subresource, "status");
                    after = Some(object.clone());
                }
                other => panic!("{other:?}"),
            }
        }
        self.hpa = after.unwrap_or(self.hpa.clone());
        self.scale.wanted
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self.hpa["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null);
        (
            found["status"].as_str().unwrap_or("").to_owned(),
            found["reason"].as_str().unwrap_or("").to_owned(),
        )
    }

    fn later(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }
}

fn is(condition: &(String, String), status: &str, reason: &str) -> bool {
    (condition.0.as_str(), condition.1.as_str()) == (status, reason)
}

#[test]
fn utilization_decides_on_the_size() {
    // Of 1 CPU requested by each of three pods: (usages, percentage wanted, size).
    let cases = [
        (["300m", "500m", "700m"], 30, 5),
        (["300m", "500m", "700m"], 50, 3),
        (["540m", "540m", "540m"], 50, 3),
        (["100m", "300m", "500m"], 50, 2),
        (["1", "1", "1"], 20, 6),
    ];
    for (used, percent, size) in cases {
        let answer = usage(&[("p0", used[0]), ("p1", used[1]), ("p2", used[2])]);
        let mut world = World::new(3, utilization(percent), answer);
        world.settings.downscale_stabilization = SignedDuration::ZERO;
        world.look(Ok(()));
        world.later(1);
        assert_eq!(world.look(Ok(())), size, "{used:?} at {percent}%");
    }
}

#[test]
fn status_events_and_no_second_change() {
    let mut world = World::new(
        3,
        utilization(30),
        usage(&[("p0", "300m"), ("p1", "500m"), ("p2", "700m")]),
    );
    assert_eq!(world.look(Ok(())), 5);
    assert_eq!(
        world.events,
        ["SuccessfulRescale: New size: 5; reason: cpu resource utilization (percentage of request) above target"]
    );
    assert!(is(&world.condition("AbleToScale"), "True", "SucceededRescale"));
    assert!(is(&world.condition("ScalingActive"), "True", "ValidMetricFound"));
    assert!(is(&world.condition("ScalingLimited"), "False", "DesiredWithinRange"));
    let status = &world.hpa["status"];
    assert_eq!(
        (&status["currentReplicas"], &status["desiredReplicas"]),
        (&json!(3), &json!(5))
    );
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 50, "averageValue": "500m"}}}])
    );
    assert_eq!(status["lastScaleTime"], "2026-01-01T00:00:00Z");
    // At the new size with the usage that was wanted nothing is left to do.
    let names: Vec<String> = (0..5).map(|n| format!("p{n}")).collect();
    let used: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "300m")).collect();
    let before = world.hpa.clone();
    world = World {
        hpa: before,
        ..World::new(5, utilization(30), usage(&used))
    };
    world.look(Ok(()));
    let settled = world.hpa.clone();
    assert_eq!(world.look(Ok(())), 5);
    assert_eq!((&world.hpa, world.events.len()), (&settled, 0));
}

#[test]
fn pods_that_begin_or_are_unknown_are_taken_with_care() {
    // One pod not ready counts as idle on the way up: (300 + 500 + 0) / 3000 is less than 30 %.
    let mut world = World::new(
        3,
        utilization(30),
        usage(&[("p0", "300m"), ("p1", "500m"), ("p2", "700m")]),
    );
    world.edit(2, |pod| pod["status"]["phase"] = json!("Pending"));
    assert_eq!(world.look(Ok(())), 3);
    // A fresh pod that is not ready says nothing about CPU.
    let mut world = World::new(
        3,
        utilization(30),
        usage(&[("p0", "600m"), ("p1", "500m"), ("p2", "900m")]),
    );
    world.edit(2, |pod| {
        pod["status"]["startTime"] = json!("2025-12-31T23:59:50Z");
        pod["status"]["conditions"][0]["status"] = json!("False");
    });
    // (600 + 500 + 0) / 3000 = 36 %, a fifth more than wanted.
    assert_eq!(world.look(Ok(())), 4);
    // A missing one counts as busy on the way down, and as idle on the way up.
    let mut world = World::new(
        4,
        utilization(50),
        usage(&[("p0", "100m"), ("p1", "100m"), ("p2", "100m")]),
    );
    world.settings.downscale_stabilization = SignedDuration::ZERO;
    world.look(Ok(()));
    world.later(1);
    assert_eq!(world.look(Ok(())), 3);
    let mut world = World::new(
        4,
        utilization(50),
        usage(&[("p0", "900m"), ("p1", "900m"), ("p2", "900m")]),
    );
    assert_eq!(world.look(Ok(())), 6);
    // One that failed, or is going, does not count.
    let mut world = World::new(3, utilization(50), usage(&[("p0", "1"), ("p1", "1"), ("p2", "0")]));
    world.edit(2, |pod| pod["status"]["phase"] = json!("Failed"));
    assert_eq!(world.look(Ok(())), 4);
    // None at all.
    let mut world = World::new(2, utilization(50), usage(&[("p0", "1"), ("p1", "1")]));
    for index in 0..2 {
        world.edit(index, |pod| pod["status"]["phase"] = json!("Pending"));
    }
    world.look(Ok(()));
    assert!(is(
        &world.condition("ScalingActive"),
        "False",
        "FailedGetResourceMetric"
    ));
    assert_eq!(
        world.events[1],
        "FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"
    );
}

#[test]
fn tolerance_is_the_autoscalers_own_if_it_has_one() {
    let used = usage(&[("p0", "540m"), ("p1", "540m"), ("p2", "540m")]);
    for (tolerance, size) in [(None, 3), (Some("0.05"), 4), (Some("0"), 4), (Some("0.5"), 3)] {
        let mut world = World::new(3, utilization(50), used.clone());
        if let Some(tolerance) = tolerance {
            let rules =
                json!({"tolerance": tolerance, "policies": [{"type": "Pods", "value": 9, "periodSeconds": 15}]});
            world.hpa["spec"]["behavior"] = json!({"scaleUp": rules, "scaleDown": {}});
        }
        assert_eq!(world.look(Ok(())), size, "{tolerance:?}");
    }
}

#[test]
fn the_other_sources() {
    let custom = |value: &str| {
        let item = |name: &str| json!({"describedObject": {"name": name}, "value": value, "timestamp": "2026-01-01T00:00:00Z"});
        json!({"items": [item("p0"), item("p1"), item("p2")]})
    };
    let per_pod = |ty: &str, target: Value| {
        let mut metric = json!({"type": ty});
        let field = ty.to_lowercase();
        metric[&field] = json!({"metric": {"name": "qps"}, "target": target,
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "web"}});
        metric
    };
    let average = json!({"type": "AverageValue", "averageValue": "10"});
    let value = json!({"type": "Value", "value": "10"});
    let one = |value: &str| json!({"items": [{"value": value}]});
    let container = json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
        "target": {"type": "Utilization", "averageUtilization": 50}}});
    let raw = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "100m"}}});
    let used = usage(&[("p0", "300m"), ("p1", "500m"), ("p2", "150m")]);
    let cases = [
        (
            per_pod("Pods", average.clone()),
            custom("15"),
            5,
            "pods metric qps above target",
        ),
        (
            per_pod("Object", value.clone()),
            one("20"),
            6,
            "Service metric qps above target",
        ),
        (
            per_pod("Object", average.clone()),
            one("50"),
            5,
            "external metric qps(nil) above target",
        ),
        (
            per_pod("External", value),
            one("12"),
            4,
            "external metric qps(nil) above target",
        ),
        (
            per_pod("External", average),
            one("41"),
            5,
            "external metric qps(nil) above target",
        ),
        (
            container,
            used.clone(),
            4,
            "cpu container resource utilization (percentage of request) above target",
        ),
        (raw, used, 6, "cpu resource above target"),
    ];
    for (metric, answer, size, reason) in cases {
        let mut world = World::new(3, metric.clone(), answer);
        assert_eq!(world.look(Ok(())), size, "{metric}");
        assert_eq!(
            world.events,
            [format!("SuccessfulRescale: New size: {size}; reason: {reason}")]
        );
    }
}

#[test]
fn questions_name_what_is_needed() {
    let metric = json!({"type": "Object", "object": {
        "metric": {"name": "qps", "selector": {"matchLabels": {"a": "b"}}},
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"},
        "target": {"type": "Value", "value": "1"},
    }});
    let mut world = World::new(3, metric, json!({}));
    let wanted = Question::Object {
        api_version: "networking.k8s.io/v1".to_owned(),
        kind: "Ingress".to_owned(),
        name: "i".to_owned(),
        metric: "qps".to_owned(),
        metric_selector: "a=b".to_owned(),
    };
    assert_eq!(ask(&world.hpa, &world.scale), [wanted]);
    // Nothing is asked for a size that is fixed anyway.
    for replicas in [0, 1, 7] {
        world.scale.wanted = replicas;
        assert!(ask(&world.hpa, &world.scale).is_empty(), "{replicas}");
    }
}

#[test]
fn bounds_and_sleep() {
    let mut world = World::new(1, utilization(50), usage(&[]));
    assert_eq!(world.look(Ok(())), 2);
    assert_eq!(
        world.events,
        ["SuccessfulRescale: New size: 2; reason: Current number of replicas below Spec.MinReplicas"]
    );
    let mut world = World::new(7, utilization(50), usage(&[]));
    assert_eq!(world.look(Ok(())), 6);
    let mut world = World::new(0, utilization(50), usage(&[]));
    assert_eq!(world.look(Ok(())), 0);
    assert!(is(&world.condition("ScalingActive"), "False", "ScalingDisabled"));
    assert!(world.events.is_empty());
}

#[test]
fn a_target_that_was_put_to_sleep_wakes_up() {
    let metric = json!({"type": "External", "external": {
        "metric": {"name": "lag"}, "target": {"type": "Value", "value": "10"}}});
    let value = |value: &str| json!({"items": [{"value": value}]});
    let mut world = World::new(2, metric, value("0"));
    world.hpa["spec"]["minReplicas"] = json!(0);
    world.settings.downscale_stabilization = SignedDuration::ZERO;
    world.look(Ok(()));
    world.later(1);
    assert_eq!(world.look(Ok(())), 0);
    assert!(is(&world.condition("ScaledToZero"), "True", "ScaledToZero"));
    world.scale.present = 0;
    world.answers = vec![Ok(value("25"))];
    world.later(15);
    assert_eq!(world.look(Ok(())), 3);
    assert!(is(&world.condition("ScaledToZero"), "False", "NotScaledToZero"));
}

#[test]
fn failures_are_told_and_change_nothing() {
    let failing = Err("the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned());
    let mut world = World::new(3, utilization(50), json!({}));
    world.answers = vec![failing];
    assert_eq!(world.look(Ok(())), 3);
    assert_eq!(
        world.events[0],
        "FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    );
    // With another metric that works it may go up, not down.
    let extra = json!({"type": "External", "external": {
        "metric": {"name": "lag"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    world.hpa["spec"]["metrics"].as_array_mut().unwrap().push(extra);
    world.answers.push(Ok(json!({"items": [{"value": "20"}]})));
    assert_eq!(world.look(Ok(())), 3);
    world.answers[1] = Ok(json!({"items": [{"value": "40"}]}));
    assert_eq!(world.look(Ok(())), 4);
    // Requests are needed for percentages.
    let mut world = World::new(3, utilization(50), usage(&[("p0", "1"), ("p1", "1"), ("p2", "1")]));
    world.edit(1, |pod| pod["spec"]["containers"][0]["resources"] = json!({}));
    assert_eq!(world.look(Ok(())), 3);
    assert!(
        world.events[0].ends_with("missing request for cpu in container c of Pod p1"),
        "{:?}",
        world.events
    );
    // The target refuses.
    let mut world = World::new(3, utilization(30), usage(&[("p0", "1"), ("p1", "1"), ("p2", "1")]));
    assert_eq!(world.look(Err("no")), 3);
    assert!(is(&world.condition("AbleToScale"), "False", "FailedUpdateScale"));
    assert_eq!(
        world.events,
        [
            "FailedRescale: New size: 6; reason: cpu resource utilization (percentage of request) above target; error: no"
        ]
    );
    assert_eq!(world.hpa["status"]["desiredReplicas"], 0);
}

#[test]
fn no_scale_and_no_selector() {
    let world = World::new(3, utilization(50), usage(&[]));
    let sight = Sight {
        hpa: &world.hpa,
        scale: Err("gone"),
        answers: &[],
        pods: &[],
        others: &[],
        now: world.now,
        settings: &world.settings,
    };
    let mut memory = Memory::default();
    let plan = conclude(&sight, decide(&sight, &mut memory), Ok(()), &mut memory);
    assert_eq!(plan.actions().count(), 2);
    let mut world = World::new(3, utilization(50), usage(&[]));
    world.scale.selector = String::new();
    world.look(Ok(()));
    assert!(is(&world.condition("ScalingActive"), "False", "InvalidSelector"));
    assert_eq!(
        world.events,
        [
            "SelectorRequired: selector is required",
            "FailedComputeMetricsReplicas: selector is required"
        ]
    );
    let mut world = World::new(3, utilization(50), usage(&[("p0", "1")]));
    world.others = vec![(Key::new("ns", "other"), "app".to_owned())];
    world.look(Ok(()));
    assert_eq!(
        world.events[0],
        "AmbiguousSelector: pods by selector app=web are controlled by multiple HPAs: [{h ns} {other ns}]"
    );
}

#[test]
fn without_a_behavior_it_grows_twofold_and_shrinks_late() {
    let mut world = World::new(3, utilization(10), usage(&[("p0", "1"), ("p1", "1"), ("p2", "1")]));
    world.hpa["spec"]["maxReplicas"] = json!(100);
    assert_eq!(world.look(Ok(())), 6);
    assert!(is(&world.condition("ScalingLimited"), "True", "ScaleUpLimit"));
    let mut world = World::new(
        5,
        utilization(50),
        usage(&[("p0", "0"), ("p1", "0"), ("p2", "0"), ("p3", "0"), ("p4", "0")]),
    );
    assert_eq!(world.look(Ok(())), 5);
    assert!(is(&world.condition("AbleToScale"), "True", "ScaleDownStabilized"));
    world.later(300);
    assert_eq!(world.look(Ok(())), 5);
    world.later(1);
    assert_eq!(world.look(Ok(())), 2);
    assert!(is(&world.condition("ScalingLimited"), "True", "TooFewReplicas"));
}

#[test]
fn policies_limit_the_change_in_a_period() {
    let policies = json!([{"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]);
    // (select, direction, sizes after each quarter of a minute)
    let cases = [
        ("Max", "scaleUp", vec![15, 15, 15, 15, 23]),
        ("Min", "scaleUp", vec![12, 12, 12, 12, 14]),
        ("Disabled", "scaleUp", vec![10, 10]),
        ("Max", "scaleDown", vec![5, 5, 5, 5, 2]),
        ("Min", "scaleDown", vec![8, 8, 8, 8, 6]),
        ("Disabled", "scaleDown", vec![10, 10]),
    ];
    for (select, direction, sizes) in cases {
        let metric = json!({"type": "External", "external": {
            "metric": {"name": "lag"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
        let load = if direction == "scaleUp" { "1000" } else { "0.1" };
        let mut world = World::new(10, metric, json!({"items": [{"value": load}]}));
        world.hpa["spec"]["maxReplicas"] = json!(1000);
        world.hpa["spec"]["minReplicas"] = json!(1);
        let rules = json!({"selectPolicy": select, "policies": policies, "stabilizationWindowSeconds": 0});
        let other = json!({"selectPolicy": "Max", "policies": policies, "stabilizationWindowSeconds": 0});
        let opposite = if direction == "scaleUp" { "scaleDown" } else { "scaleUp" };
        world.hpa["spec"]["behavior"] = json!({direction: rules, opposite: other});
        let mut seen = Vec::new();
        for _ in &sizes {
            seen.push(world.look(Ok(())));
            world.scale.present = world.scale.wanted;
            world.later(15);
        }
        assert_eq!(seen, sizes, "{select} {direction}");
    }
}

#[test]
fn windows_hold_both_ways() {
    let metric = json!({"type": "External", "external": {
        "metric": {"name": "lag"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
    let value = |value: &str| vec![Ok(json!({"items": [{"value": value}]}))];
    let mut world = World::new(5, metric, json!({}));
    world.hpa["spec"]["maxReplicas"] = json!(100);
    let free = json!([{"type": "Pods", "value": 100, "periodSeconds": 15}]);
    world.hpa["spec"]["behavior"] = json!({
        "scaleUp": {"policies": free, "stabilizationWindowSeconds": 60},
        "scaleDown": {"policies": free},
    });
    world.answers = value("9");
    assert_eq!(world.look(Ok(())), 5);
    assert!(is(&world.condition("AbleToScale"), "True", "ScaleUpStabilized"));
    world.later(60);
    assert_eq!(world.look(Ok(())), 9);
    world.scale.present = 9;
    world.answers = value("3");
    world.later(15);
    assert_eq!(world.look(Ok(())), 9);
    assert!(is(&world.condition("AbleToScale"), "True", "ScaleDownStabilized"));
    // The window that is not given is the controller's.
    world.later(290);
    assert_eq!(world.look(Ok(())), 3);
}
