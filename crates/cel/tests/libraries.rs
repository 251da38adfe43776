//! Kubernetes' libraries against the rows of their own tests upstream (k8s.io/apiserver/pkg/cel/library/*_test.go): an
//! expression `e` and the value `v` that it gives, or the error `x` that it fails with, or the messages `c` with which it
//! does not compile. Patterns are regular expressions.

mod support;

use std::sync::{Arc, Mutex};

use cel::authorizer::{Answer, Authorizer, Request, Subject, Target};
use cel::{Activation, Env, HostObject, Library, MutationTypes, Type, Value, limits};
use serde_json::{Value as Json, json};

fn matches(pattern: &str, text: &str) -> bool {
    text == pattern || text.contains(pattern) || regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

fn check(row: &Json, env: &Env) -> Result<(), String> {
    let expression = row["e"].as_str().expect("an expression");
    let program = match (env.compile(expression), row["c"].as_array()) {
        (Err(issues), Some(patterns)) => {
            let text = issues.to_string();
            let missing = patterns
                .iter()
                .filter_map(Json::as_str)
                .find(|pattern| !matches(pattern, &text));
            return missing.map_or(Ok(()), |pattern| Err(format!("{text} lacks {pattern}")));
        }
        (Err(issues), None) => return Err(issues.to_string()),
        (Ok(_), Some(_)) => return Err("compiles".to_owned()),
        (Ok(program), None) => program,
    };
    match (
        program.evaluate(&Activation::new(), limits::PER_CALL_LIMIT),
        row["x"].as_str(),
    ) {
        (Err(error), Some(pattern)) if matches(pattern, error.message()) => Ok(()),
        (Err(error), _) => Err(error.to_string()),
        (Ok((value, _)), Some(pattern)) => Err(format!("{value} instead of the error {pattern}")),
        (Ok(_), None) if row["any"] == 1 => Ok(()),
        (Ok((value, _)), None) => {
            let equal = value.equals(&support::value(&row["v"])).expect("comparable");
            if equal {
                Ok(())
            } else {
                Err(format!("{value} instead of {}", row["v"]))
            }
        }
    }
}

#[test]
fn libraries_do_what_upstreams_do() {
    let env = Env::kubernetes().build();
    let rows = include_str!("data/libraries.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row"));
    let rows: Vec<Json> = rows.collect();
    assert!(rows.len() > 150, "the table is whole");
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            check(row, &env)
                .err()
                .map(|problem| format!("{}\n    {problem}", row["e"]))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} rows are wrong:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}

fn eval(env: &Env, activation: &Activation, expression: &str) -> Value {
    let program = env.compile(expression).unwrap_or_else(|issues| panic!("{issues}"));
    program
        .evaluate(activation, limits::RUNTIME_COST_BUDGET)
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
        .0
}

#[test]
fn small_tables_of_the_other_libraries() {
    let env = Env::kubernetes().build();
    for expression in [
        "url('https://user:pw@example.com:8080/a%20b?q=1&q=2#f').getHost() == 'example.com:8080'",
        "url('https://example.com:8080/').getHostname() == 'example.com'",
        "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'",
        "url('/path?k=v').getScheme() == '' && url('/path?k=v').getQuery()['k'] == ['v']",
        "url('https://example.com/with space/').getEscapedPath() == '/with%20space/'",
        "!isURL('../relative') && !isURL('example.com') && isURL('http://example.com')",
        "'abc 123 def 456'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "[1, 3, 2].isSorted() == false && [1, 2, 3].sum() == 6 && [1, 3, 2].max() == 3 && [1, 2].min() == 1",
        "['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && [1].indexOf(2) == -1",
        "[1, 2].includes(2) && !'a'.includes('b')",
        "[3, 1, 2].sort() == [1, 2, 3] && ['bb', 'a'].sortBy(x, x.size()) == ['a', 'bb']",
        "[1, 2, 2].distinct() == [1, 2] && [[1], [2]].flatten() == [1, 2] && lists.range(3) == [0, 1, 2]",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [1, 2].reverse() == [2, 1] && [1, 2].first().value() == 1",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])",
        "'a-b'.split('-') == ['a', 'b'] && 'abc'.split('') == ['a', 'b', 'c'] && 'a-b-c'.split('-', 2) == ['a', 'b-c']",
        "'%s is %d, %.2f, %x, %b, %o'.format(['a', 1, 1234.5, 255, 5, 8]) == 'a is 1, 1,234.50, ff, 101, 10'",
        "'tacocat'.lastIndexOf('a', 3) == 1 && 'tacocat'.substring(4) == 'cat' && ' x '.trim() == 'x'",
        "[1, 2, 3].transformList(i, v, i > 0, v * 2) == [4, 6] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'} && [1, 2].exists(i, v, i == 1 && v == 2)",
        "optional.of(1).optMap(x, x + 1).value() == 2 && {'a': 1}[?'b'].orValue(3) == 3 && [?optional.none()] == []",
        "has({'a': 1}.a) && !has({'a': 1}.b) && {'a': {'b': 1}}.?a.?b.value() == 1",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1.5').add(quantity('500m')).compareTo(quantity('2')) == 0",
        "timestamp('9999-12-31T23:59:59Z').getFullYear() == 9999",
        "timestamp('2023-07-14T10:30:45.123Z').getHours('America/Los_Angeles') == 3",
    ] {
        assert_eq!(
            eval(&env, &Activation::new(), expression).as_bool(),
            Some(true),
            "{expression}"
        );
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Request>>);

impl Authorizer for Recorder {
    fn authorize(&self, request: &Request) -> Answer {
        self.0.lock().expect("nobody panics").push(request.clone());
        Answer {
            allowed: request.verb == "get",
            reason: "why".to_owned(),
            error: None,
        }
    }
}

#[test]
fn checks_reach_the_host() {
    let env = Env::kubernetes()
        .variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
        .build();
    let host = Arc::new(Recorder::default());
    let activation = Activation::new().with("authorizer", Value::authorizer(host.clone()));
    let value = eval(
        &env,
        &activation,
        "authorizer.serviceAccount('ns', 'sa').group('apps').resource('deployments').namespace('n').name('d')\
         .labelSelector('a=b').check('get').allowed() && !authorizer.path('/healthz').check('post').allowed()",
    );
    assert_eq!(value.as_bool(), Some(true));
    let requests = host.0.lock().expect("nobody panics").clone();
    assert_eq!(
        requests[0].subject,
        Subject::ServiceAccount {
            namespace: "ns".into(),
            name: "sa".into()
        }
    );
    let Target::Resource(target) = &requests[0].target else {
        panic!("not a resource")
    };
    assert_eq!(
        (&*target.group, &*target.resource, &*target.label_selector),
        ("apps", "deployments", "a=b")
    );
    assert_eq!(requests[1].target, Target::Path("/healthz".into()));
    let program = env
        .compile("authorizer.path('').check('get').allowed()")
        .expect("an expression");
    assert_eq!(
        program
            .evaluate(&activation, limits::PER_CALL_LIMIT)
            .expect_err("no path")
            .message(),
        "path must not be empty"
    );
    let program = env
        .compile("[1, 2, 3].all(i, authorizer.path('/').check('get').allowed())")
        .expect("an expression");
    let error = program
        .evaluate(&activation, limits::PER_CALL_LIMIT)
        .expect_err("three checks cost too much");
    assert_eq!(error.kind(), cel::ErrorKind::CostLimit);
    assert!(error.cost() > limits::PER_CALL_LIMIT);
}

#[test]
fn mutations_make_objects_and_patches() {
    let env = Env::kubernetes()
        .library(Library::JsonPatch)
        .types(Arc::new(MutationTypes))
        .variable("object", Type::Dyn)
        .build();
    let activation = Activation::new().with(
        "object",
        Value::from_dynamic_json(json!({"spec": {"n": 1}})).expect("a map"),
    );
    let value = eval(
        &env,
        &activation,
        "Object{spec: Object.spec{replicas: object.spec.n + 1, names: ['a'], ?x: optional.none()}}",
    );
    assert_eq!(
        value.to_json().expect("JSON"),
        json!({"spec": {"replicas": 2, "names": ["a"]}})
    );
    let value = eval(
        &env,
        &activation,
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: {'k': object.spec}}]",
    );
    let patch = json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": {"k": {"n": 1}}}]);
    assert_eq!(value.to_json().expect("JSON"), patch);
    let issues = env.compile("JSONPatch{op: 1}").expect_err("a wrong type");
    assert_eq!(
        issues.issues()[0].message,
        "expected type of field 'op' is 'string' but provided type is 'int'"
    );
    assert_eq!(
        env.compile("Other{a: 1}").expect_err("no type").issues()[0].message,
        "undeclared reference to 'Other' (in container '')"
    );
}

#[derive(Debug)]
struct Variables;

impl HostObject for Variables {
    fn type_name(&self) -> &str {
        "kubernetes.variables"
    }

    fn field(&self, name: &str) -> Option<Result<Value, cel::EvalError>> {
        match name {
            "two" => Some(Ok(Value::Int(2))),
            "bad" => Some(Err(cel::EvalError::new("composited variable \"bad\" fails"))),
            _ => None,
        }
    }
}

#[test]
fn hosts_give_fields_when_they_are_asked_for() {
    let env = Env::kubernetes().variable("variables", Type::Dyn).build();
    let activation = Activation::new().with("variables", Value::Host(Arc::new(Variables)));
    assert_eq!(
        eval(
            &env,
            &activation,
            "variables.two == 2 && has(variables.two) && !has(variables.x)"
        )
        .as_bool(),
        Some(true)
    );
    let program = env.compile("variables.bad == 1").expect("an expression");
    let error = program.evaluate(&activation, 1_000).expect_err("it fails");
    assert_eq!(error.message(), "composited variable \"bad\" fails");
}
