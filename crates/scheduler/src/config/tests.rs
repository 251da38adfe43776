use serde_json::json;

use super::*;
use crate::framework::Point;

fn read(mut file: Value) -> Result<Configuration, Vec<String>> {
    file["apiVersion"] = json!(API_VERSION);
    file["kind"] = json!("KubeSchedulerConfiguration");
    Configuration::read(&file).map_err(|invalid| invalid.0)
}

fn names(profile: &Profile, point: Point) -> Vec<String> {
    profile
        .at(point)
        .map(|(_, plugin, weight)| format!("{}*{weight}", plugin.name()))
        .collect()
}

#[test]
fn an_empty_file_is_the_default_profile() {
    let read = read(json!({})).unwrap();
    let [profile] = read.profiles.as_slice() else { panic!() };
    assert_eq!(profile.scheduler_name, "default-scheduler");
    // A claim that nobody uses is given back before pods are ended.
    assert_eq!(
        names(profile, Point::PostFilter),
        ["DynamicResources*1", "DefaultPreemption*1"]
    );
    assert_eq!(
        names(profile, Point::Score),
        [
            "TaintToleration*3",
            "NodeAffinity*2",
            "NodeResourcesFit*1",
            "VolumeBinding*1",
            "PodTopologySpread*2",
            "InterPodAffinity*2",
            "NodeResourcesBalancedAllocation*1",
            "ImageLocality*1"
        ]
    );
    assert_eq!(read.patience, Patience::default());
}

#[test]
fn plugins_are_enabled_disabled_and_reordered() {
    let read = read(json!({"profiles": [
        {"schedulerName": "a", "plugins": {
            "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit", "weight": 7}]},
            "postFilter": {"disabled": [{"name": "DynamicResources"}, {"name": "DefaultPreemption"}]},
        }},
        {"schedulerName": "b", "plugins": {
            "multiPoint": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "TaintToleration", "weight": 9}]},
            "score": {"enabled": [{"name": "InterPodAffinity", "weight": 5}]},
        }},
    ]}))
    .unwrap();
    assert_eq!(names(&read.profiles[0], Point::Score), ["NodeResourcesFit*7"]);
    assert!(!read.profiles[0].has(Point::PostFilter));
    assert_eq!(
        names(&read.profiles[1], Point::Score),
        [
            "InterPodAffinity*5",
            "TaintToleration*9",
            "NodeAffinity*2",
            "NodeResourcesFit*1",
            "VolumeBinding*1",
            "PodTopologySpread*2",
            "NodeResourcesBalancedAllocation*1"
        ]
    );
}

#[test]
fn everything_wrong_is_said_at_once() {
    let wrong = read(json!({
        "parallelism": 0, "percentageOfNodesToScore": 101, "podInitialBackoffSeconds": 20,
        "profiles": [
            {"schedulerName": "a", "plugins": {"filter": {"enabled": [{"name": "Nope"}]}}},
            {"schedulerName": "a", "pluginConfig": [
                {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 101}},
                {"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "RequestedToCapacityRatio"}}},
                {"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": [
                    {"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Never"}]}},
            ]},
        ],
        "extenders": [{"urlPrefix": "http://x", "prioritizeVerb": "p"}],
    }))
    .unwrap_err();
    assert_eq!(
        wrong,
        [
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            "profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"",
            "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
            "profiles[0].plugins: plugin \"Nope\" does not exist",
            "profiles[1].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
            "profiles[1].pluginConfig[1].args.scoringStrategy.requestedToCapacityRatio.shape: Required value: \
             at least one point must be specified",
            "profiles[1].pluginConfig[2].args.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
            "profiles[1].pluginConfig[2].args.defaultConstraints[0].topologyKey: Required value: can not be empty",
            "profiles[1].pluginConfig[2].args.defaultConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": \
             supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ]
    );
    assert!(read(json!({"profile": []})).unwrap_err()[0].starts_with("strict decoding error: unknown field `profile`"));
}
